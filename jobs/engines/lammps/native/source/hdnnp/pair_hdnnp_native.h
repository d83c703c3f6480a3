// pair_style hdnnp/native FOLDER [double]: symmetry-function networks, n2p2's files, in LAMMPS
// (pair_coeff * * ELEMENT...). The folder's numbers are bohr and hartree. `compute ID all pair hdnnp/native` gives,
// behind the energy, the extrapolation warnings of the last step and of all steps since the style was set.
#pragma once

#include <memory>
#include <vector>

#include "hdnnp_kernel.h"
#include "pair_network.h"

namespace LAMMPS_NS {

class PairHdnnpNative : public PairNetwork {
 public:
  PairHdnnpNative(class LAMMPS *);
  ~PairHdnnpNative() override;
  void settings(int, char **) override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void finish() override;

 private:
  template <class Real> struct Engine {
    std::unique_ptr<silica::HdnnpKernel<Real>> kernel;
    typename silica::HdnnpKernel<Real>::Neighbours near;
  };
  template <class Real> void compute_with(Engine<Real> &engine);

  double reach_;
  Engine<float> single_;
  Engine<double> double_;
  std::vector<int> inside_, index_, count_;
  long long warnings_, reported_;  // of this rank since the style was set, and of those printed
};

}  // namespace LAMMPS_NS
