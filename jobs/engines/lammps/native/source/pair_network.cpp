#include "pair_network.h"

#include <algorithm>
#include <cstring>

#include "atom.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;

PairNetwork::PairNetwork(LAMMPS *lmp, const char *style) : Pair(lmp), style_(style)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairNetwork::~PairNetwork()
{
  if (copymode || !allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

void PairNetwork::coeff(int narg, char **arg)
{
  const int n = atom->ntypes;
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    map = new int[n + 1];
  }
  map_element2type(narg - 2, arg + 2);
  for (int t = 1; t <= n; t++) {
    const auto found =
        map[t] < 0 ? symbols_.end() : std::find(symbols_.begin(), symbols_.end(), elements[map[t]]);
    if (found == symbols_.end())
      error->all(FLERR, "pair_coeff {}: found {} for type {}, expected an element of the potential", style_,
                 map[t] < 0 ? "NULL" : elements[map[t]], t);
    map[t] = found - symbols_.begin();
  }
}

void PairNetwork::init_style()
{
  if (!force->newton_pair) error->all(FLERR, "pair_style {}: found newton off, expected newton on", style_);
  if (std::strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style {}: found units {}, expected metal", style_, update->unit_style);
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

void PairNetwork::tally_virial(int i, int j, const double apart[3], const double force[3])
{
  constexpr int ROW[6] = {0, 1, 2, 0, 0, 1}, COLUMN[6] = {0, 1, 2, 1, 2, 2};
  for (int k = 0; k < 6; k++) {
    const double half = -0.5 * apart[ROW[k]] * force[COLUMN[k]];
    vatom[i][k] += half;
    vatom[j][k] += half;
  }
}
