// What LAMMPS's side of both networks shares: elements of atom types, checks, and the virial of an atom.
#pragma once

#include <string>
#include <vector>

#include "pair.h"

namespace LAMMPS_NS {

class PairNetwork : public Pair {
 public:
  PairNetwork(class LAMMPS *, const char *style);
  ~PairNetwork() override;
  void coeff(int, char **) override;  // sets map: LAMMPS's atom type -> place in symbols_
  void init_style() override;

 protected:
  // A neighbour j at `apart` from atom i, on which it pulls with `force`: half of the virial to each.
  void tally_virial(int i, int j, const double apart[3], const double force[3]);

  const std::string style_;
  std::vector<std::string> symbols_;  // elements of the network, in its order
};

}  // namespace LAMMPS_NS
