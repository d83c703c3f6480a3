// Energy and forces of one atom in a deep potential, fast.
//
//   R = ((s - mean)/sd, s x/(r sd'), s y/(r sd'), s z/(r sd'))    for each neighbour, s(r) the switched 1/r
//   T[a][c] = sum over neighbours of R[a] G[c](s)                  G: embedding net of the pair of types
//   D[d][c] = sum over a of T[a][d] T[a][c] / slots^2              d < axis
//   S[c]    = sum over neighbours of H[c](s) / slots               of the radial descriptor, if there is one
//   energy  = fitting net of (D, S)
//
// What makes it fast: G and H are tables in r with the switch folded in (cubic Hermite, exact values and slopes
// at the nodes, which fall on both ends of the switch), G and H are neighbouring channels of one table, channels
// are vectors, and each table entry is read once. Arithmetic is float32; sums over atoms are the caller's.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "deepmd_model.h"
#include "vectors.h"

namespace silica {

// A finer table gains nothing in float32, one twice as coarse loses a factor of two in forces.
constexpr double TABLE_SPACING = 0.0125;
// Below, the table's first value holds: nothing that lives comes so near.
constexpr double TABLE_START = 0.3;

// out = x M (or out += x M), M row-major with rows of whole vectors; V vectors of it, for enough sums at a time.
template <int V> inline void multiply_some(const float *x, int rows, const float *m, int stride, Vector *out)
{
  Vector even[V] = {}, odd[V] = {};
  int i = 0;
  for (; i + 1 < rows; i += 2) {
    const Vector *one = reinterpret_cast<const Vector *>(m + i * stride);
    const Vector *two = reinterpret_cast<const Vector *>(m + (i + 1) * stride);
    for (int v = 0; v < V; v++) {
      even[v] += x[i] * one[v];
      odd[v] += x[i + 1] * two[v];
    }
  }
  if (i < rows)
    for (int v = 0; v < V; v++) even[v] += x[i] * reinterpret_cast<const Vector *>(m + i * stride)[v];
  for (int v = 0; v < V; v++) out[v] += even[v] + odd[v];
}

inline void multiply(const float *x, int rows, const float *m, int columns, Vector *out)
{
  const int vectors = columns / LANES;
  int v = 0;
  for (; v + 4 <= vectors; v += 4) multiply_some<4>(x, rows, m + v * LANES, columns, out + v);
  for (; v < vectors; v++) multiply_some<1>(x, rows, m + v * LANES, columns, out + v);
}

class Kernel {
 public:
  explicit Kernel(const Model &model);

  // Neighbours of one atom; room for `capacity` of each type, type t from t * capacity on. After `evaluate`,
  // `force` holds (x, y, z, 0) of dE/d(position of neighbour) for each.
  struct Neighbours {
    int capacity = 0;
    std::vector<int> count;
    Buffer x, y, z, force;
  };

  // Room for at least so many neighbours of each type.
  void reserve(Neighbours &n, int capacity) const;

  // Energy (eV) of an atom of type `centre`. `n` holds the neighbours and gets their derivatives.
  double evaluate(int centre, Neighbours &n);

  int types() const { return types_; }
  double cutoff() const { return cutoff_; }
  // Neighbours of a type that every descriptor has a slot for.
  int slots(int type) const
  {
    return radial_.nets.empty() ? angular_.slots[type] : std::min(angular_.slots[type], radial_.slots[type]);
  }
  bool same_slots() const { return radial_.nets.empty() || radial_.slots == angular_.slots; }
  // Whether more neighbours of a type than a descriptor has slots for lie within its own cut-off. Beyond it a
  // neighbour is as an empty slot.
  bool crowded(const Neighbours &n, int type) const;

 private:
  struct Dense {
    int inputs, outputs;  // padded
    bool skip;
    Buffer forward, backward, bias, timestep;
  };
  struct Atom {  // what depends on the type of the centre
    double energy;
    float mean, per_sd, per_sd_direction;
    std::vector<Dense> layers;
    std::vector<Buffer> tables;                     // for each neighbour type
    std::vector<Buffer> empty_angular, empty_radial;  // of one empty slot
  };

  void tabulate(const Model &model, int centre);
  void connect(const Model &model, int centre);
  void radial_parts(const Atom &atom, Neighbours &n);
  template <bool A, bool R> void embed(const Atom &atom, const Neighbours &n, int vector);
  float fit(const Atom &atom);
  void derivatives(Neighbours &n);

  Descriptor angular_, radial_;  // their nets are not used after the tables are made
  int types_, channels_, axis_, angular_width_;
  int vectors_, angular_vectors_, first_radial_;  // channels in vectors; G in the first, H from `first_radial_`
  double cutoff_, spacing_, start_;
  int nodes_;
  std::vector<Atom> atoms_;

  // Of the atom at work; rows of `capacity` neighbours of each type.
  Buffer s_, slope_, r0_, r1_, r2_, r3_, dr0_, across_, along_, t_, per_r_;
  std::vector<int> node_;
  Buffer g_, dg_;              // (neighbour, channel)
  Buffer T_, S_, gT_, gS_;     // (4, channels) and (channels)
  std::vector<Buffer> activations_, slopes_;
};

inline Kernel::Kernel(const Model &model) :
    angular_(model.angular), radial_(model.radial), types_(model.types.size()), axis_(model.angular.axis),
    angular_width_(model.angular.width()), cutoff_(model.cutoff())
{
  channels_ = padded(angular_width_ + radial_.width());
  vectors_ = channels_ / LANES;
  angular_vectors_ = padded(angular_width_) / LANES;
  first_radial_ = radial_.nets.empty() ? vectors_ : angular_width_ / LANES;
  const double range = angular_.cutoff - angular_.smooth_from;
  spacing_ = range / std::ceil(range / TABLE_SPACING - 1e-9);
  // Nodes on both ends of the angular switch: from its cut-off in whole steps, down and up.
  const int down = (angular_.cutoff - TABLE_START) / spacing_;
  start_ = angular_.cutoff - down * spacing_;
  nodes_ = down + std::ceil((cutoff_ - angular_.cutoff) / spacing_ - 1e-9);
  atoms_.resize(types_);
  for (int t = 0; t < types_; t++) {
    tabulate(model, t);
    connect(model, t);
  }
  T_.resize(4 * channels_);
  gT_.resize(4 * channels_);
  S_.resize(channels_);
  gS_.resize(channels_);
}

// A node is, for each vector of channels, the four coefficients of a cubic in (r - node) / spacing.
inline void Kernel::tabulate(const Model &model, int centre)
{
  Atom &atom = atoms_[centre];
  atom.energy = model.atom_energy[centre];
  atom.mean = angular_.mean[centre];
  atom.per_sd = 1 / angular_.sd[centre];
  atom.per_sd_direction = 1 / angular_.sd_direction[centre];
  atom.tables.clear();
  for (int other = 0; other < types_; other++) {
    Buffer table((nodes_ + 1) * 4 * channels_), empty_angular(channels_), empty_radial(channels_);
    std::vector<double> value(channels_), slope(channels_), value_before, slope_before, net, dnet;
    const auto fill = [&](const Descriptor &d, double r, int first) {
      const Switched s = r > 0 ? d.switched(r) : Switched{0.0, 0.0};
      silica::embed(d.nets[centre * types_ + other], (s.value - d.mean[centre]) / d.sd[centre], net, dnet);
      for (int c = 0; c < d.width(); c++) {
        value[first + c] = net[c];
        slope[first + c] = dnet[c] * s.slope / d.sd[centre];
      }
    };
    for (int k = 0; k <= nodes_; k++) {
      value_before = value;
      slope_before = slope;
      const double r = start_ + k * spacing_;
      fill(angular_, r, 0);
      if (!radial_.nets.empty()) fill(radial_, r, angular_width_);
      if (k == 0) continue;
      for (int c = 0; c < channels_; c++) {
        float *at = &table[((k - 1) * vectors_ + c / LANES) * 4 * LANES + c % LANES];
        const double rise = value[c] - value_before[c], a = spacing_ * slope_before[c], b = spacing_ * slope[c];
        at[0] = value_before[c];
        at[LANES] = a;
        at[2 * LANES] = 3 * rise - 2 * a - b;
        at[3 * LANES] = -2 * rise + a + b;
      }
    }
    // The last node: at the cut-off, where everything is as in an empty slot and stays.
    for (int c = 0; c < channels_; c++)
      table[(nodes_ * vectors_ + c / LANES) * 4 * LANES + c % LANES] = value[c];
    const double z = -angular_.mean[centre] / angular_.sd[centre];
    for (int c = 0; c < angular_width_; c++) empty_angular[c] = z * value[c];
    for (int c = angular_width_; c < angular_width_ + radial_.width(); c++) empty_radial[c] = value[c];
    atom.tables.push_back(std::move(table));
    atom.empty_angular.push_back(std::move(empty_angular));
    atom.empty_radial.push_back(std::move(empty_radial));
  }
}

// The fitting net on padded channels: inputs are D[d][vectors of G], then the vectors with H.
inline void Kernel::connect(const Model &model, int centre)
{
  const std::vector<Layer> &net = model.fitting[centre];
  const int per_axis = angular_vectors_ * LANES, radial_from = axis_ * per_axis;
  const int inputs = radial_from + (vectors_ - first_radial_) * LANES;
  for (std::size_t l = 0; l < net.size(); l++) {
    const Layer &layer = net[l];
    Dense dense;
    dense.inputs = l == 0 ? inputs : padded(layer.inputs);
    dense.outputs = padded(layer.outputs);
    dense.skip = l > 0 && l + 1 < net.size() && layer.inputs == layer.outputs;
    dense.forward.resize(dense.inputs * dense.outputs);
    dense.backward.resize(dense.inputs * dense.outputs);
    dense.bias.resize(dense.outputs);
    dense.timestep.resize(dense.outputs);
    for (int o = 0; o < layer.outputs; o++) {
      dense.bias[o] = layer.bias[o];
      dense.timestep[o] = layer.timestep.empty() ? 1 : layer.timestep[o];
    }
    for (int i = 0; i < layer.inputs; i++) {
      int at = i;
      double scale = 1;
      if (l == 0 && i < axis_ * angular_width_) {  // DeePMD's order is channel-major
        at = i % axis_ * per_axis + i / axis_;
        scale = angular_.factor / (double(angular_.all_slots()) * angular_.all_slots());
      } else if (l == 0) {
        const int channel = i - axis_ * angular_width_ + angular_width_;
        at = radial_from + channel - first_radial_ * LANES;
        scale = radial_.factor / radial_.all_slots();
      }
      for (int o = 0; o < layer.outputs; o++) {
        const float w = scale * layer.weights[i * layer.outputs + o];
        dense.forward[at * dense.outputs + o] = w;
        dense.backward[o * dense.inputs + at] = w;
      }
    }
    atoms_[centre].layers.push_back(std::move(dense));
  }
  if (activations_.size() < net.size() + 1) {
    activations_.resize(net.size() + 1);
    slopes_.resize(net.size() + 1);
  }
  for (std::size_t l = 0; l <= net.size(); l++) {
    const std::size_t n = l == 0 ? inputs : atoms_[centre].layers[l - 1].outputs;
    if (activations_[l].size() < n) {
      activations_[l].resize(n);
      slopes_[l].resize(n);
    }
  }
}

inline void Kernel::reserve(Neighbours &n, int capacity) const
{
  capacity = padded(capacity);
  n.count.assign(types_, 0);
  if (capacity <= n.capacity) return;
  n.capacity = capacity;
  for (Buffer *b : {&n.x, &n.y, &n.z}) b->resize(types_ * capacity);
  n.force.resize(types_ * capacity * 4);
}

inline bool Kernel::crowded(const Neighbours &n, int type) const
{
  const int begin = type * n.capacity, end = begin + n.count[type];
  for (const Descriptor *d : {&angular_, &radial_}) {
    if (d->nets.empty()) continue;
    int inside = 0;
    for (int j = begin; j < end; j++)
      inside += n.x[j] * n.x[j] + n.y[j] * n.y[j] + n.z[j] * n.z[j] < d->cutoff * d->cutoff;
    if (inside > d->slots[type]) return true;
  }
  return false;
}

// Everything of a neighbour that depends on its distance and direction, many neighbours at a time.
inline void Kernel::radial_parts(const Atom &atom, Neighbours &n)
{
  const std::size_t rows = types_ * n.capacity;
  if (s_.size() < rows) {
    for (Buffer *b : {&s_, &slope_, &r0_, &r1_, &r2_, &r3_, &dr0_, &across_, &along_, &t_, &per_r_}) b->resize(rows);
    node_.resize(rows);
    g_.resize(rows * channels_);
    dg_.resize(rows * channels_);
  }
  const float from = angular_.smooth_from, to = angular_.cutoff, per_range = 1 / (to - from);
  const float mean = atom.mean, per_sd = atom.per_sd, per_sd1 = atom.per_sd_direction;
  const float start = start_, per_spacing = 1 / spacing_, last = nodes_;
  for (int type = 0; type < types_; type++) {
    const int begin = type * n.capacity, end = begin + n.count[type];
    const float *x = n.x.data(), *y = n.y.data(), *z = n.z.data();
    float *r0 = r0_.data(), *r1 = r1_.data(), *r2 = r2_.data(), *r3 = r3_.data(), *dr0 = dr0_.data();
    float *across = across_.data(), *along = along_.data(), *t = t_.data(), *inverse = per_r_.data();
    int *node = node_.data();
#pragma GCC ivdep
    for (int j = begin; j < end; j++) {
      const float r = std::sqrt(x[j] * x[j] + y[j] * y[j] + z[j] * z[j]), per_r = 1 / r;
      const float u = std::min(std::max((r - from) * per_range, 0.0f), 1.0f);
      const float w = 1 + u * u * u * (-10 + u * (15 - 6 * u));
      const float dw = u * u * (-30 + u * (60 - 30 * u)) * per_range;
      const float s = w * per_r, ds = (dw - s) * per_r;
      const float k = s * per_r * per_sd1;  // R[a] = k x[a]
      r0[j] = (s - mean) * per_sd;
      r1[j] = k * x[j];
      r2[j] = k * y[j];
      r3[j] = k * z[j];
      dr0[j] = ds * per_sd;
      across[j] = k;
      along[j] = (ds - s * per_r) * per_r * per_sd1;  // dk/dr
      inverse[j] = per_r;
      const float at = std::min(std::max((r - start) * per_spacing, 0.0f), last);
      node[j] = static_cast<int>(at);
      t[j] = at - static_cast<float>(node[j]);
    }
  }
}

// One vector of channels for all neighbours: table values, kept, and their sums; A: it has G, R: it has H.
template <bool A, bool R> inline void Kernel::embed(const Atom &atom, const Neighbours &n, int vector)
{
  const Vector per_spacing = all(1 / spacing_);
  const int vectors = vectors_, stride = 4 * vectors;
  const int *node = node_.data();
  const float *at = t_.data(), *r0 = r0_.data(), *r1 = r1_.data(), *r2 = r2_.data(), *r3 = r3_.data();
  Vector *g = &g_.vector(vector), *dg = &dg_.vector(vector);
  Vector t0 = {}, t1 = {}, t2 = {}, t3 = {}, sum = {};
  for (int type = 0; type < types_; type++) {
    const Vector *table = reinterpret_cast<const Vector *>(atom.tables[type].data()) + 4 * vector;
    const int begin = type * n.capacity, end = begin + n.count[type];
    for (int j = begin; j < end; j++) {
      const Vector *c = table + static_cast<std::size_t>(node[j]) * stride;
      const Vector t = all(at[j]);
      const Vector third = c[3] * t;
      const Vector value = ((third + c[2]) * t + c[1]) * t + c[0];
      const Vector slope = (c[1] + t * (2.0f * c[2] + 3.0f * third)) * per_spacing;
      g[j * vectors] = value;
      dg[j * vectors] = slope;
      if (A) {
        t0 += r0[j] * value;
        t1 += r1[j] * value;
        t2 += r2[j] * value;
        t3 += r3[j] * value;
      }
      if (R) sum += value;
    }
    if (A) t0 += float(angular_.slots[type] - n.count[type]) * atom.empty_angular[type].vector(vector);
    if (R) sum += float(radial_.slots[type] - n.count[type]) * atom.empty_radial[type].vector(vector);
  }
  if (A) {
    T_.vector(vector) = t0;
    T_.vector(vectors_ + vector) = t1;
    T_.vector(2 * vectors_ + vector) = t2;
    T_.vector(3 * vectors_ + vector) = t3;
  }
  if (R) S_.vector(vector) = sum;
}

// The energy without its constant, and in gT_, gS_ its derivatives with respect to T and S.
inline float Kernel::fit(const Atom &atom)
{
  Buffer &input = activations_[0];
  for (int d = 0; d < axis_; d++)
    for (int v = 0; v < angular_vectors_; v++) {
      Vector sum = {};
      for (int a = 0; a < 4; a++) sum += T_[a * channels_ + d] * T_.vector(a * vectors_ + v);
      input.vector(d * angular_vectors_ + v) = sum;
    }
  for (int v = first_radial_; v < vectors_; v++)
    input.vector(axis_ * angular_vectors_ + v - first_radial_) = S_.vector(v);

  const std::size_t last = atom.layers.size() - 1;
  for (std::size_t l = 0; l <= last; l++) {
    const Dense &dense = atom.layers[l];
    Vector *out = &activations_[l + 1].vector(0), *slope = &slopes_[l + 1].vector(0);
    const int outputs = dense.outputs / LANES;
    for (int v = 0; v < outputs; v++) out[v] = dense.bias.vector(v);
    multiply(activations_[l].data(), dense.inputs, dense.forward.data(), dense.outputs, out);
    if (l == last) break;
    for (int v = 0; v < outputs; v++) {
      const Vector h = silica::tanh(out[v]), step = dense.timestep.vector(v);
      slope[v] = (1.0f - h * h) * step;
      out[v] = h * step;
      if (dense.skip) out[v] += activations_[l].vector(v);
    }
  }
  const float energy = activations_[last + 1][0];

  // Backward; `slopes_[l + 1]` becomes the derivative with respect to the sums that enter layer l.
  std::memset(slopes_[last + 1].data(), 0, sizeof(float) * atom.layers[last].outputs);
  slopes_[last + 1][0] = 1;
  for (std::size_t l = last + 1; l-- > 0;) {
    const Dense &dense = atom.layers[l];
    Vector *gradient = &activations_[l].vector(0);
    const int inputs = dense.inputs / LANES;
    for (int v = 0; v < inputs; v++) gradient[v] = dense.skip ? activations_[l + 1].vector(v) : Vector{};
    multiply(slopes_[l + 1].data(), dense.outputs, dense.backward.data(), dense.inputs, gradient);
    if (l > 0)
      for (int v = 0; v < inputs; v++) slopes_[l].vector(v) *= gradient[v];
  }

  for (int a = 0; a < 4; a++) {
    for (int v = 0; v < angular_vectors_; v++) {
      Vector sum = {};
      for (int d = 0; d < axis_; d++) sum += T_[a * channels_ + d] * input.vector(d * angular_vectors_ + v);
      gT_.vector(a * vectors_ + v) = sum;
    }
    for (int d = 0; d < axis_; d++) {
      Vector sum = {};
      for (int v = 0; v < angular_vectors_; v++)
        sum += T_.vector(a * vectors_ + v) * input.vector(d * angular_vectors_ + v);
      const Quad parts = folded(sum);
      gT_[a * channels_ + d] += parts[0] + parts[1] + parts[2] + parts[3];
    }
  }
  for (int v = first_radial_; v < vectors_; v++)
    gS_.vector(v) = input.vector(axis_ * angular_vectors_ + v - first_radial_);
  return energy;
}

// dE/d(position) of each neighbour: U[a] = dE/dR[a], and what the embedding contributes along r.
inline void Kernel::derivatives(Neighbours &n)
{
  const int vectors = vectors_, angular = angular_vectors_, first_radial = first_radial_;
  const Vector *q0 = &gT_.vector(0), *q1 = q0 + vectors, *q2 = q1 + vectors, *q3 = q2 + vectors;
  const Vector *p = &gS_.vector(0);
  const float *x = n.x.data(), *y = n.y.data(), *z = n.z.data();
  float *force = n.force.data();
  for (int type = 0; type < types_; type++) {
    const int begin = type * n.capacity, end = begin + n.count[type];
    for (int j = begin; j < end; j++) {
      const Vector *g = &g_.vector(j * vectors), *dg = &dg_.vector(j * vectors);
      const float r0 = r0_[j], r1 = r1_[j], r2 = r2_[j], r3 = r3_[j], along = along_[j];
      Vector u0 = {}, u1 = {}, u2 = {}, u3 = {}, radial = {};
      for (int v = 0; v < angular; v++) {
        u0 += q0[v] * g[v];
        u1 += q1[v] * g[v];
        u2 += q2[v] * g[v];
        u3 += q3[v] * g[v];
        radial += (q0[v] * r0 + q1[v] * r1 + q2[v] * r2 + q3[v] * r3) * dg[v];
      }
      for (int v = first_radial; v < vectors; v++) radial += p[v] * dg[v];
      radial += u0 * dr0_[j] + along * (u1 * x[j] + u2 * y[j] + u3 * z[j]);
      const Quad sum = sums(u1, u2, u3, radial);
      const float along_r = sum[3] * per_r_[j], k = across_[j];
      force[4 * j] = along_r * x[j] + k * sum[0];
      force[4 * j + 1] = along_r * y[j] + k * sum[1];
      force[4 * j + 2] = along_r * z[j] + k * sum[2];
    }
  }
}

inline double Kernel::evaluate(int centre, Neighbours &n)
{
  const Atom &atom = atoms_[centre];
  radial_parts(atom, n);
  for (int v = 0; v < vectors_; v++) {
    const bool has_g = v < angular_vectors_, has_h = v >= first_radial_;
    if (has_g && has_h)
      embed<true, true>(atom, n, v);
    else if (has_g)
      embed<true, false>(atom, n, v);
    else
      embed<false, true>(atom, n, v);
  }
  const float energy = fit(atom);
  derivatives(n);
  return atom.energy + energy;
}

}  // namespace silica
