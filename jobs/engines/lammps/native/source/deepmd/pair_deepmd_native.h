// pair_style deepmd/native MODEL: a deep potential in LAMMPS (pair_coeff * * ELEMENT...).
#pragma once

#include <memory>
#include <vector>

#include "deepmd_kernel.h"
#include "pair_network.h"

namespace LAMMPS_NS {

class PairDeepmdNative : public PairNetwork {
 public:
  PairDeepmdNative(class LAMMPS *);
  void settings(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void finish() override;

 private:
  void gather(int i);
  void keep_nearest(int type);
  void add(int i, int type);

  std::unique_ptr<silica::Kernel> kernel_;
  silica::Kernel::Neighbours near_;
  std::vector<int> index_;              // of LAMMPS, for each neighbour in near_
  std::vector<std::vector<int>> owned_;  // atoms of this rank by type of the model
  bigint crowded_;                       // surroundings with more neighbours than the model has slots
};

}  // namespace LAMMPS_NS
