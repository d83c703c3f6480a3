#include "pair_deepmd_native.h"

#include <algorithm>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

void *create_deepmd_native(void *lmp) { return new PairDeepmdNative(static_cast<LAMMPS *>(lmp)); }

PairDeepmdNative::PairDeepmdNative(LAMMPS *lmp) : PairNetwork(lmp, "deepmd/native"), crowded_(0) {}

void PairDeepmdNative::settings(int narg, char **arg)
{
  if (narg != 1) error->all(FLERR, "pair_style deepmd/native: found {} words, expected a model file", narg);
  try {
    const silica::Model model(arg[0]);
    symbols_ = model.types;
    kernel_ = std::make_unique<silica::Kernel>(model);
  } catch (const std::exception &problem) {
    error->all(FLERR, "pair_style deepmd/native: {}", problem.what());
  }
}

void PairDeepmdNative::init_style()
{
  if (domain->triclinic)
    error->all(FLERR, "pair_style deepmd/native: found a triclinic box, expected an orthogonal one");
  PairNetwork::init_style();
}

double PairDeepmdNative::init_one(int, int) { return kernel_->cutoff(); }

void PairDeepmdNative::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  // Type by type: the tables of one centre stay in the cache.
  owned_.resize(kernel_->types());
  for (auto &atoms : owned_) atoms.clear();
  for (int ii = 0; ii < list->inum; ii++) owned_[map[atom->type[list->ilist[ii]]]].push_back(list->ilist[ii]);
  for (int type = 0; type < kernel_->types(); type++)
    for (const int i : owned_[type]) {
      gather(i);
      const double energy = kernel_->evaluate(type, near_);
      if (eflag_global) eng_vdwl += energy;
      if (eflag_atom) eatom[i] += energy;
      for (int other = 0; other < kernel_->types(); other++) add(i, other);
    }
  if (vflag_fdotr) virial_fdotr_compute();
}

// The neighbours of atom i within the cut-off, by type.
void PairDeepmdNative::gather(int i)
{
  const int n = list->numneigh[i];
  kernel_->reserve(near_, n);
  const int capacity = near_.capacity;
  if (static_cast<int>(index_.size()) < kernel_->types() * capacity) index_.resize(kernel_->types() * capacity);
  const double *const *x = atom->x, xi = x[i][0], yi = x[i][1], zi = x[i][2];
  const double cutoff2 = kernel_->cutoff() * kernel_->cutoff();
  const int *neighbours = list->firstneigh[i], *types = atom->type;
  float *dx = near_.x.data(), *dy = near_.y.data(), *dz = near_.z.data();
  int *index = index_.data(), *count = near_.count.data();
  for (int k = 0; k < n; k++) {
    const int j = neighbours[k] & NEIGHMASK, type = map[types[j]], at = type * capacity + count[type];
    const double a = x[j][0] - xi, b = x[j][1] - yi, c = x[j][2] - zi;
    dx[at] = a;
    dy[at] = b;
    dz[at] = c;
    index[at] = j;
    count[type] += a * a + b * b + c * c < cutoff2;  // without a branch: a third of them lie in the skin
  }
  for (int type = 0; type < kernel_->types(); type++)
    if (count[type] > kernel_->slots(type) && kernel_->crowded(near_, type)) keep_nearest(type);
}

// DeePMD-kit leaves out the farthest where a type has more neighbours than slots.
void PairDeepmdNative::keep_nearest(int type)
{
  if (!kernel_->same_slots())
    error->one(FLERR, "pair_style deepmd/native: found more neighbours of {} than slots (sel), expected one sel "
                      "in both descriptors, or enough slots; DeePMD-kit runs this model", symbols_[type]);
  crowded_++;
  const int begin = type * near_.capacity;
  std::vector<int> order(near_.count[type]);
  std::iota(order.begin(), order.end(), begin);
  const auto distance2 = [&](int j) {
    return near_.x[j] * near_.x[j] + near_.y[j] * near_.y[j] + near_.z[j] * near_.z[j];
  };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return distance2(a) < distance2(b); });
  order.resize(kernel_->slots(type));
  std::sort(order.begin(), order.end());
  for (std::size_t k = 0; k < order.size(); k++) {
    const int to = begin + k, from = order[k];
    near_.x[to] = near_.x[from];
    near_.y[to] = near_.y[from];
    near_.z[to] = near_.z[from];
    index_[to] = index_[from];
  }
  near_.count[type] = order.size();
}

// Forces on atom i and its neighbours of a type; float64, since float32 sums would leave a net force.
void PairDeepmdNative::add(int i, int type)
{
  double **f = atom->f, sum[3] = {0, 0, 0};
  const int begin = type * near_.capacity, end = begin + near_.count[type];
  const float *force = near_.force.data();
  for (int at = begin; at < end; at++) {
    double *other = f[index_[at]];
    for (int a = 0; a < 3; a++) {
      const double d = force[4 * at + a];
      other[a] -= d;
      sum[a] += d;
    }
    if (vflag_atom) {
      const double apart[3] = {near_.x[at], near_.y[at], near_.z[at]};
      const double pull[3] = {force[4 * at], force[4 * at + 1], force[4 * at + 2]};
      tally_virial(i, index_[at], apart, pull);
    }
  }
  for (int a = 0; a < 3; a++) f[i][a] += sum[a];
}

void PairDeepmdNative::finish()
{
  bigint crowded = 0;
  MPI_Allreduce(&crowded_, &crowded, 1, MPI_LMP_BIGINT, MPI_SUM, world);
  if (crowded && comm->me == 0)
    error->warning(FLERR, "deepmd/native: {} surroundings had more neighbours than the model has slots; "
                          "the farthest were left out, as DeePMD-kit does", crowded);
  crowded_ = 0;
}
