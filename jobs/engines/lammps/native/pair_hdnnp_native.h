// pair_style hdnnp/native FOLDER [double]: symmetry-function networks, n2p2's files, in LAMMPS
// (pair_coeff * * ELEMENT...). The folder's numbers are bohr and hartree. `compute ID all pair hdnnp/native` gives,
// behind the energy, the extrapolation warnings of the last step and of all steps since the style was set.
#pragma once

#include <memory>
#include <vector>

#include "pair.h"

#include "hdnnp_kernel.h"

namespace LAMMPS_NS {

class PairHdnnpNative : public Pair {
 public:
  PairHdnnpNative(class LAMMPS *);
  ~PairHdnnpNative() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void finish() override;

 private:
  template <class Real> struct Engine {
    std::unique_ptr<silica::HdnnpKernel<Real>> kernel;
    typename silica::HdnnpKernel<Real>::Neighbours near;
  };
  template <class Real> void compute_with(Engine<Real> &engine);

  std::vector<std::string> symbols_;
  double reach_;
  Engine<float> single_;
  Engine<double> double_;
  std::vector<int> inside_, index_, count_;
  long long warnings_, reported_;  // of this rank since the style was set, and of those printed
};

}  // namespace LAMMPS_NS
