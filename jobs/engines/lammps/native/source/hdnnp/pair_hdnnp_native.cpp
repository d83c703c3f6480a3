#include "pair_hdnnp_native.h"

#include <algorithm>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

void *create_hdnnp_native(void *lmp) { return static_cast<Pair *>(new PairHdnnpNative(static_cast<LAMMPS *>(lmp))); }

PairHdnnpNative::PairHdnnpNative(LAMMPS *lmp)
    : PairNetwork(lmp, "hdnnp/native"), reach_(0), warnings_(0), reported_(0)
{
  nextra = 2;
  pvector = new double[nextra]{};
}

PairHdnnpNative::~PairHdnnpNative()
{
  if (!copymode) delete[] pvector;
}

void PairHdnnpNative::settings(int narg, char **arg)
{
  const bool exact = narg == 2 && std::strcmp(arg[1], "double") == 0;
  if (narg != 1 && !exact)
    error->all(FLERR, "pair_style hdnnp/native: found {} words, expected a folder of n2p2's files and perhaps "
                      "'double'", narg);
  try {
    const silica::HdnnpModel model(arg[0]);
    symbols_.clear();
    for (const auto &element : model.elements) symbols_.push_back(element.symbol);
    reach_ = model.cutoff;
    single_.kernel.reset();
    double_.kernel.reset();
    if (exact)
      double_.kernel = std::make_unique<silica::HdnnpKernel<double>>(model);
    else
      single_.kernel = std::make_unique<silica::HdnnpKernel<float>>(model);
  } catch (const std::exception &problem) {
    error->all(FLERR, "pair_style hdnnp/native: {}", problem.what());
  }
}

double PairHdnnpNative::init_one(int, int) { return reach_; }

void PairHdnnpNative::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  const long long before = warnings_;
  if (double_.kernel)
    compute_with(double_);
  else
    compute_with(single_);
  // Of this rank: compute pair adds the ranks up.
  pvector[0] = warnings_ - before;
  pvector[1] = warnings_;
  if (vflag_fdotr) virial_fdotr_compute();
}

template <class Real> void PairHdnnpNative::compute_with(Engine<Real> &engine)
{
  auto &near = engine.near;
  const double *const *x = atom->x, reach2 = reach_ * reach_;
  double **f = atom->f;
  const int *types = atom->type;
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii], n = list->numneigh[i];
    const int *neighbours = list->firstneigh[i];
    const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
    // Those within the cut-off, without a branch: a third of the list lies in the skin.
    if (static_cast<int>(inside_.size()) <= n) inside_.resize(n + 1);
    count_.assign(symbols_.size(), 0);
    int kept = 0;
    for (int k = 0; k < n; k++) {
      const int j = neighbours[k] & NEIGHMASK;
      const double a = x[j][0] - xi, b = x[j][1] - yi, c = x[j][2] - zi;
      const bool in = a * a + b * b + c * c < reach2;
      inside_[kept] = j;
      kept += in;
      count_[map[types[j]]] += in;
    }
    engine.kernel->reserve(near, count_);
    index_.resize(near.x.size());
    for (int k = 0; k < kept; k++) {
      const int j = inside_[k], element = map[types[j]], at = near.begin[element] + near.count[element]++;
      near.x.data()[at] = x[j][0] - xi;
      near.y.data()[at] = x[j][1] - yi;
      near.z.data()[at] = x[j][2] - zi;
      index_[at] = j;
    }
    const double energy = engine.kernel->evaluate(map[types[i]], near, warnings_);
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;
    // Forces in float64: sums in float32 would leave a net force.
    double sum[3] = {0, 0, 0};
    for (std::size_t element = 0; element < symbols_.size(); element++)
      for (int at = near.begin[element]; at < near.begin[element] + near.count[element]; at++) {
        const int j = index_[at];
        const double slope[3] = {near.gx.data()[at], near.gy.data()[at], near.gz.data()[at]};
        for (int a = 0; a < 3; a++) {
          f[j][a] -= slope[a];
          sum[a] += slope[a];
        }
        if (vflag_atom) {
          const double apart[3] = {near.x.data()[at], near.y.data()[at], near.z.data()[at]};
          tally_virial(i, j, apart, slope);
        }
      }
    for (int a = 0; a < 3; a++) f[i][a] += sum[a];
  }
}

void PairHdnnpNative::finish()
{
  long long mine = warnings_ - reported_, all = 0;
  MPI_Allreduce(&mine, &all, 1, MPI_LONG_LONG, MPI_SUM, world);
  reported_ = warnings_;
  if (comm->me == 0) utils::logmesg(lmp, "hdnnp/native: {} extrapolation warnings\n", all);
}
