// Energy and forces of one atom in a potential of symmetry functions, fast.
//
//   radial   G = sum_j exp(-eta (r_j - shift)^2) fc(r_j)
//   angular  G = 2^(1-zeta) sum_{j<k} a(r_j) a(r_k) a(r_jk) (1 + sign cos)^zeta,  a(r) = exp(-eta r^2) fc(r)
//
// What makes it fast: angular functions of one a (a "shape") and one pair of elements differ by powers of the
// cosine only, so sums over triples are moments of the cosine, and their derivatives come from one polynomial in
// the cosine for each shape. exp(-eta s) and fc are polynomials in s = r^2 (fc is even in r), so that a(r_jk)
// takes no root, no table and no gathering; exp of a large eta is that of eta / 2^k, squared k times. What
// depends on one distance is a table (cubic Hermite, whose slope is the derivative of the very value). Lanes are
// neighbours k.
// Arithmetic of triples is in Real (float or double), sums of functions and the networks are double.
#pragma once

#include "hdnnp_model.h"
#include "vectors.h"

namespace silica {

// Eight at most: neighbours of one element are few, and more lanes would stand idle.
#if defined(__AVX512F__)
template <class Real> constexpr int HDNNP_LANES = 8;
#elif defined(__AVX__)
template <class Real> constexpr int HDNNP_LANES = 32 / sizeof(Real);
#else
template <class Real> constexpr int HDNNP_LANES = 16 / sizeof(Real);
#endif

template <class Real> class HdnnpKernel {
 public:
  static constexpr int LANES = HDNNP_LANES<Real>;
  static constexpr int FC_DEGREE = sizeof(Real) == 4 ? 5 : 9;
  static constexpr int MOST_SHAPES = 3;  // in one pass over the triples
  // Of eta rc^2: beyond twice this, powers of t cancel each other in float32 (24 gives errors of 3e-3 eV/A).
  static constexpr double MOST_DECAY = 10;
  typedef Real Vector __attribute__((vector_size(LANES * sizeof(Real)), may_alias));

  explicit HdnnpKernel(const HdnnpModel &model);

  // Neighbours of one atom by element: those of element e from begin[e] on, count[e] of them, with room to the
  // next multiple of LANES. After `evaluate`, gx, gy, gz hold dE/d(position of the neighbour).
  struct Neighbours {
    std::vector<int> begin, count;
    Aligned<Real> x, y, z, gx, gy, gz;
  };

  // Room for so many neighbours of each element; empties it.
  void reserve(Neighbours &n, const std::vector<int> &most) const;

  // Energy (eV) of an atom of element `centre`. Adds to `warnings` the functions outside the training data.
  double evaluate(int centre, Neighbours &n, long long &warnings);

 private:
  struct Term {  // one angular function as a polynomial in the cosine
    int function, shape, zeta;
    std::vector<double> weights;
  };
  // Angular functions of one pair of elements whose triples are gone through together: shapes of one cut-off.
  struct Pass {
    int first, second;              // elements of the neighbours
    int shapes = 0, highest = 0;    // how many, and the highest power of the cosine
    double cutoff;
    std::vector<int> channel;       // of each shape among those of the centre
    std::vector<double> eta;
    // Of each shape exp(-eta s / 2^k) in powers of 2 s / rc^2 - 1, from the highest on, and k.
    std::vector<std::vector<Real>> decays;
    std::vector<int> squarings;
    std::vector<Term> terms;
    int outer = 0, inner = 0;       // the two elements; lanes are of the inner one, which has more neighbours
    std::size_t start = 0;          // of what is kept of its triples
  };
  struct Atom {
    const HdnnpElement *element;
    int channels, shapes;                  // channels of each table, in whole vectors: radial ones, then shapes
    std::vector<std::vector<int>> radial;  // functions of the channels, for each element of a neighbour
    std::vector<Aligned<Real>> tables;
    std::vector<Pass> passes;
    std::vector<double> margin;            // of the range of training
    std::vector<std::vector<double>> backward;  // weights of each layer, output-major
  };

  void tabulate(Atom &atom, const std::vector<std::pair<double, double>> &shapes);
  void plan(Atom &atom, const std::vector<std::pair<double, double>> &shapes);
  void look_up(const Atom &atom, Neighbours &n);
  double network(const Atom &atom);
  template <int SHAPES, int HIGHEST> void moments(const Neighbours &n, const Pass &pass);
  template <int SHAPES, int HIGHEST> void slopes(Neighbours &n, const Pass &pass);

  static Vector all(Real value) { return value - Vector{}; }
  static int whole(int n) { return (n + LANES - 1) / LANES * LANES; }
  static Real sum(Vector v)
  {
    Real total = 0;
    for (int l = 0; l < LANES; l++) total += v[l];
    return total;
  }
  // Sums over the lanes of eight vectors; of eight lanes by three rounds of adding halves.
  static void sums(const Vector (&v)[8], Real (&to)[8])
  {
    if constexpr (LANES == 8) {
      Vector pair[4], quad[2];
      for (int i = 0; i < 4; i++)
        pair[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
            __builtin_shufflevector(v[2 * i], v[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
      for (int i = 0; i < 2; i++)
        quad[i] = __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
            __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
      const Vector all_lanes = __builtin_shufflevector(quad[0], quad[1], 0, 1, 2, 3, 8, 9, 10, 11) +
          __builtin_shufflevector(quad[0], quad[1], 4, 5, 6, 7, 12, 13, 14, 15);
      std::memcpy(to, &all_lanes, sizeof to);
    } else {
      for (int i = 0; i < 8; i++) to[i] = sum(v[i]);
    }
  }
  static const Vector &at(const Real *p, std::size_t i) { return *reinterpret_cast<const Vector *>(p + i); }
  static Vector &at(Real *p, std::size_t i) { return *reinterpret_cast<Vector *>(p + i); }

  HdnnpModel model_;
  double cutoff_, spacing_;
  int nodes_;
  std::vector<Atom> atoms_;
  Vector after_[LANES];  // 1 in the lanes after one
  // cos(pi r / (2 rc)), whose square is fc, and its derivative by t = 2 r^2 / rc^2 - 1.
  Real root_[FC_DEGREE + 1], root_slope_[FC_DEGREE + 1];

  // Of the atom at work; a neighbour has its place in each array of `room_`.
  std::size_t room_ = 0;
  Aligned<Real> value_, slope_;               // (neighbour, channel)
  Aligned<Real> shape_, on_shape_;            // (shape, neighbour): a(r), and the energy's derivative by it
  Aligned<Real> per_r_, r2_, on_self_;        // (neighbour)
  Aligned<Real> triples_;                     // for each vector of them: cosine, fc, dfc/ds, exponentials
  Aligned<Real> sums_;                        // (channel)
  std::vector<double> functions_, gradient_;  // values, and the energy's derivatives by them
  std::vector<std::vector<double>> outputs_, bends_;
};

// Chebyshev coefficients of a smooth f on [0, top].
template <class F> std::vector<double> chebyshev(F f, double top)
{
  constexpr int MOST = 48;
  const double pi = std::acos(-1.0);
  std::vector<double> found(MOST + 1);
  for (int n = 0; n <= MOST; n++) {
    for (int k = 0; k <= MOST; k++) {
      const double angle = pi * (k + 0.5) / (MOST + 1);
      found[n] += f((std::cos(angle) + 1) * top / 2) * std::cos(n * angle) * (n == 0 ? 1.0 : 2.0) / (MOST + 1);
    }
  }
  return found;
}

// The degree beyond which coefficients add up to less than `tolerance`.
inline int degree_for(const std::vector<double> &coefficients, double tolerance)
{
  int degree = coefficients.size() - 1;
  for (double rest = std::abs(coefficients[degree]); degree > 1 && rest <= tolerance;)
    rest += std::abs(coefficients[--degree]);
  return degree;
}

// Coefficients of the powers of t = 2 s / top - 1, from the highest on, of a Chebyshev sum cut at `degree`.
inline std::vector<double> powers(const std::vector<double> &coefficients, int degree)
{
  std::vector<double> before = {1}, now = {0, 1}, found(degree + 1);
  found[0] = coefficients[0];
  for (int n = 1; n <= degree; n++) {
    for (int p = 0; p <= n; p++) found[p] += coefficients[n] * now[p];
    std::vector<double> next(n + 2);  // T_(n+1) = 2 t T_n - T_(n-1)
    for (int p = 0; p <= n; p++) next[p + 1] = 2 * now[p];
    for (int p = 0; p < n; p++) next[p] -= before[p];
    before = now;
    now = next;
  }
  std::reverse(found.begin(), found.end());
  return found;
}

template <class Real> HdnnpKernel<Real>::HdnnpKernel(const HdnnpModel &model) : model_(model), cutoff_(model.cutoff)
{
  // Of the value's error the fourth power of the spacing is left, of the slope's the third.
  const double wanted = sizeof(Real) == 4 ? 0.0125 : 0.004;
  nodes_ = std::ceil(cutoff_ / wanted);
  spacing_ = cutoff_ / nodes_;
  for (int lane = 0; lane < LANES; lane++)
    for (int l = 0; l < LANES; l++) after_[lane][l] = l > lane;
  const double half_pi = std::acos(0.0);
  const auto root = powers(chebyshev([&](double s) { return std::cos(half_pi * std::sqrt(s)); }, 1), FC_DEGREE);
  const auto root_slope = powers(
      chebyshev(
          [&](double s) {
            const double angle = half_pi * std::sqrt(s);
            return -0.25 * half_pi * half_pi * std::sin(angle) / angle;
          },
          1),
      FC_DEGREE);
  std::copy(root.begin(), root.end(), root_);
  std::copy(root_slope.begin(), root_slope.end(), root_slope_);
  std::size_t layers = 0, widest = 0;
  for (const HdnnpElement &element : model_.elements) {
    Atom atom;
    atom.element = &element;
    std::vector<std::pair<double, double>> shapes;  // cut-off, eta: what has one cut-off stands together
    for (const SymmetryFunction &f : element.functions)
      if (f.angular) shapes.emplace_back(f.cutoff, f.eta);
    std::sort(shapes.begin(), shapes.end());
    shapes.erase(std::unique(shapes.begin(), shapes.end()), shapes.end());
    tabulate(atom, shapes);
    plan(atom, shapes);
    for (std::size_t l = 0; l < element.weights.size(); l++) {
      const int inputs = element.nodes[l], outputs = element.nodes[l + 1];
      std::vector<double> turned(inputs * outputs);
      for (int k = 0; k < inputs * outputs; k++) turned[k % outputs * inputs + k / outputs] = element.weights[l][k];
      atom.backward.push_back(turned);
    }
    for (std::size_t f = 0; f < element.functions.size(); f++) {
      const double range = element.maximum[f] - element.minimum[f];
      atom.margin.push_back(sizeof(Real) == 4 ? 1e-6 * range : 1e-9 * range);
    }
    if (static_cast<int>(sums_.size()) < atom.channels) sums_.resize(atom.channels);
    layers = element.nodes.size();
    for (int nodes : element.nodes) widest = std::max<std::size_t>(widest, nodes);
    atoms_.push_back(std::move(atom));
  }
  functions_.resize(widest);
  gradient_.resize(widest);
  outputs_.assign(layers, std::vector<double>(widest));
  bends_.assign(layers, std::vector<double>(widest));
}

// A node is, for each channel, the four coefficients of a cubic in (r - node) / spacing, each a row of channels.
template <class Real>
void HdnnpKernel<Real>::tabulate(Atom &atom, const std::vector<std::pair<double, double>> &shapes)
{
  const auto functions = atom.element->functions;
  const int elements = model_.elements.size();
  atom.radial.resize(elements);
  std::size_t most = 0;
  for (std::size_t f = 0; f < functions.size(); f++)
    if (!functions[f].angular) atom.radial[functions[f].first].push_back(f);
  for (const auto &radial : atom.radial) most = std::max(most, radial.size());
  atom.shapes = shapes.size();
  atom.channels = whole(most + atom.shapes);
  const double pi = std::acos(-1.0);
  const auto fill = [&](double r, double eta, double shift, double cutoff, double &value, double &slope) {
    const double gauss = std::exp(-eta * (r - shift) * (r - shift));
    const double fc = r < cutoff ? 0.5 * (std::cos(pi * r / cutoff) + 1) : 0;
    const double dfc = r < cutoff ? -0.5 * pi / cutoff * std::sin(pi * r / cutoff) : 0;
    value = gauss * fc;
    slope = gauss * (dfc - 2 * eta * (r - shift) * fc);
  };
  for (int other = 0; other < elements; other++) {
    Aligned<Real> table;
    table.resize(static_cast<std::size_t>(nodes_ + 1) * 4 * atom.channels);
    const auto column = [&](int channel, double eta, double shift, double cutoff) {
      double value, slope, next_value, next_slope;
      fill(0, eta, shift, cutoff, value, slope);
      for (int node = 0; node < nodes_; node++) {
        fill((node + 1) * spacing_, eta, shift, cutoff, next_value, next_slope);
        const double rise = next_value - value, a = spacing_ * slope, b = spacing_ * next_slope;
        Real *cubic = table.data() + static_cast<std::size_t>(node) * 4 * atom.channels + channel;
        cubic[0] = value;
        cubic[atom.channels] = a;
        cubic[2 * atom.channels] = 3 * rise - 2 * a - b;
        cubic[3 * atom.channels] = a + b - 2 * rise;
        value = next_value;
        slope = next_slope;
      }
    };
    int channel = 0;
    for (int f : atom.radial[other]) column(channel++, functions[f].eta, functions[f].shift, functions[f].cutoff);
    for (const auto &[cutoff, eta] : shapes) column(channel++, eta, 0, cutoff);
    atom.tables.push_back(std::move(table));
  }
}

// Coefficients of 2^(1-zeta) (1 + sign c)^zeta in powers of c.
inline std::vector<double> binomial(int zeta, int sign)
{
  std::vector<double> found = {std::pow(2.0, 1 - zeta)};
  for (int p = 1; p <= zeta; p++) found.push_back(found.back() * sign * (zeta - p + 1) / p);
  return found;
}

template <class Real> void HdnnpKernel<Real>::plan(Atom &atom, const std::vector<std::pair<double, double>> &shapes)
{
  const auto &functions = atom.element->functions;
  const int elements = model_.elements.size();
  const double tolerance = sizeof(Real) == 4 ? 2e-8 : 1e-14;
  for (int first = 0; first < elements; first++)
    for (int second = first; second < elements; second++) {
      std::vector<Pass> passes;
      for (std::size_t s = 0; s < shapes.size(); s++) {
        const auto &[cutoff, eta] = shapes[s];
        std::vector<Term> terms;
        for (std::size_t f = 0; f < functions.size(); f++) {
          const SymmetryFunction &g = functions[f];
          if (g.angular && g.first == first && g.second == second && g.cutoff == cutoff && g.eta == eta)
            terms.push_back({static_cast<int>(f), 0, g.zeta, binomial(g.zeta, g.sign)});
        }
        if (terms.empty()) continue;
        if (passes.empty() || passes.back().cutoff != cutoff || passes.back().shapes == MOST_SHAPES) {
          passes.emplace_back();
          passes.back().first = first;
          passes.back().second = second;
          passes.back().cutoff = cutoff;
        }
        Pass &pass = passes.back();
        for (auto &term : terms) {
          term.shape = pass.shapes;
          pass.highest = std::max(pass.highest, term.zeta);
          pass.terms.push_back(term);
        }
        pass.channel.push_back(s);
        pass.eta.push_back(eta);
        pass.shapes++;
      }
      for (Pass &pass : passes) {
        const double top = pass.cutoff * pass.cutoff;
        for (double eta : pass.eta) {
          int squarings = 0;
          while (std::ldexp(eta * top, -squarings) > MOST_DECAY) squarings++;
          const double part = std::ldexp(eta, -squarings);
          const auto decay = chebyshev([&](double s) { return std::exp(-part * s); }, top);
          const auto polynomial = powers(decay, degree_for(decay, tolerance));
          pass.decays.emplace_back(polynomial.begin(), polynomial.end());
          pass.squarings.push_back(squarings);
        }
        atom.passes.push_back(pass);
      }
    }
}

template <class Real>
void HdnnpKernel<Real>::reserve(Neighbours &n, const std::vector<int> &most) const
{
  int room = 0;
  n.begin.resize(most.size());
  n.count.assign(most.size(), 0);
  for (std::size_t e = 0; e < most.size(); e++) {
    n.begin[e] = room;
    room += (most[e] + LANES - 1) / LANES * LANES;
  }
  if (static_cast<int>(n.x.size()) < room)
    for (Aligned<Real> *b : {&n.x, &n.y, &n.z, &n.gx, &n.gy, &n.gz}) b->resize(room);
}

// What depends on one distance; lanes beyond the last neighbour of an element weigh nothing.
template <class Real> void HdnnpKernel<Real>::look_up(const Atom &atom, Neighbours &n)
{
  const std::size_t channels = atom.channels;
  if (room_ != n.x.size() || value_.size() < n.x.size() * channels) {
    room_ = n.x.size();
    for (Aligned<Real> *b : {&value_, &slope_, &shape_, &on_shape_}) b->resize(room_ * channels);
    for (Aligned<Real> *b : {&per_r_, &r2_, &on_self_}) b->resize(room_);
  }
  const Real per_spacing = 1 / spacing_;
  const int step = channels / LANES;
  for (std::size_t e = 0; e < n.count.size(); e++) {
    const int begin = n.begin[e], end = begin + n.count[e], padded = begin + whole(n.count[e]);
    const std::size_t first_shape = atom.radial[e].size();
    const Real *table = atom.tables[e].data();
    for (int j = end; j < padded; j++) {
      n.x.data()[j] = n.y.data()[j] = n.z.data()[j] = r2_.data()[j] = per_r_.data()[j] = 0;
      for (int s = 0; s < atom.shapes; s++) shape_.data()[s * room_ + j] = 0;
    }
    sums_.clear();
    for (int j = begin; j < end; j++) {
      const Real x = n.x.data()[j], y = n.y.data()[j], z = n.z.data()[j];
      const Real r2 = x * x + y * y + z * z, r = std::sqrt(r2);
      r2_.data()[j] = r2;
      per_r_.data()[j] = 1 / r;
      const Real where = std::min(r * per_spacing, Real(nodes_));
      const int node = static_cast<int>(where);
      const Real t = where - node;
      const Vector *c = reinterpret_cast<const Vector *>(table + node * 4 * channels);
      for (int v = 0; v < step; v++, c++) {
        const Vector third = c[3 * step] * t;
        const Vector value = ((third + c[2 * step]) * t + c[step]) * t + c[0];
        at(value_.data(), j * channels + v * LANES) = value;
        at(slope_.data(), j * channels + v * LANES) = (c[step] + t * (2 * c[2 * step] + 3 * third)) * per_spacing;
        at(sums_.data(), v * LANES) += value;
      }
      for (int s = 0; s < atom.shapes; s++)
        shape_.data()[s * room_ + j] = value_.data()[j * channels + first_shape + s];
    }
    for (std::size_t c = 0; c < atom.radial[e].size(); c++)
      functions_[atom.radial[e][c]] = sums_.data()[c];
  }
}

// Moments of the cosine over the triples of a pass, and from them its angular functions.
template <class Real>
template <int SHAPES, int HIGHEST>
void HdnnpKernel<Real>::moments(const Neighbours &n, const Pass &pass)
{
  const Real *x = n.x.data(), *y = n.y.data(), *z = n.z.data(), *per_r = per_r_.data(), *r2 = r2_.data();
  const int j_end = n.begin[pass.outer] + n.count[pass.outer];
  const int k_begin = n.begin[pass.inner], k_end = k_begin + n.count[pass.inner];
  const Real top = pass.cutoff * pass.cutoff, per_top = 2 / top;
  const Real *shape[SHAPES], *decay_of[SHAPES];
  int degree[SHAPES], squarings[SHAPES];
  for (int s = 0; s < SHAPES; s++) {
    shape[s] = shape_.data() + pass.channel[s] * room_;
    decay_of[s] = pass.decays[s].data();
    degree[s] = pass.decays[s].size() - 1;
    squarings[s] = pass.squarings[s];
  }
  Vector total[SHAPES][HIGHEST + 1] = {};
  Vector *kept = &at(triples_.data(), pass.start);
  for (int j = n.begin[pass.outer]; j < j_end; j++) {
    Vector found[SHAPES][HIGHEST + 1] = {};
    const int start = pass.outer == pass.inner ? (j + 1) / LANES * LANES : k_begin;
    for (int k = start; k < k_end; k += LANES, kept += 3 + SHAPES) {
      const Vector dot = x[j] * at(x, k) + y[j] * at(y, k) + z[j] * at(z, k);
      const Vector cosine = dot * (per_r[j] * at(per_r, k));
      const Vector apart2 = r2[j] + at(r2, k) - 2 * dot;
      Vector inside = apart2 < top ? all(1) : all(0);
      if (k <= j && j < k + LANES) inside *= after_[j - k];
      const Vector t = (apart2 < top ? apart2 : all(top)) * per_top - 1;
      Vector root = all(root_[0]), root_slope = all(root_slope_[0]), decay[SHAPES];
      for (int p = 1; p <= FC_DEGREE; p++) {
        root = root * t + root_[p];
        root_slope = root_slope * t + root_slope_[p];
      }
      for (int s = 0; s < SHAPES; s++) {
        decay[s] = all(decay_of[s][0]);
        for (int p = 1; p <= degree[s]; p++) decay[s] = decay[s] * t + decay_of[s][p];
        for (int k = 0; k < squarings[s]; k++) decay[s] *= decay[s];
      }
      root *= inside;
      const Vector fc = root * root;
      kept[0] = cosine;
      kept[1] = fc;
      kept[2] = (2 * per_top) * root * root_slope;
      Vector weight[SHAPES], power = cosine;
      for (int s = 0; s < SHAPES; s++) {
        kept[3 + s] = decay[s];
        weight[s] = fc * decay[s] * at(shape[s], k);
        found[s][0] += weight[s];
      }
      for (int p = 1; p <= HIGHEST; p++, power *= cosine)
        for (int s = 0; s < SHAPES; s++) found[s][p] += weight[s] * power;
    }
    for (int s = 0; s < SHAPES; s++)
      for (int p = 0; p <= HIGHEST; p++) total[s][p] += shape[s][j] * found[s][p];
  }
  double moment[SHAPES][HIGHEST + 1];
  for (int s = 0; s < SHAPES; s++)
    for (int p = 0; p <= HIGHEST; p++) moment[s][p] = sum(total[s][p]);
  for (const Term &term : pass.terms)
    for (int p = 0; p <= term.zeta; p++) functions_[term.function] += term.weights[p] * moment[term.shape][p];
}

// The energy's derivatives by positions and by a(r_j), through the triples of a pass.
template <class Real>
template <int SHAPES, int HIGHEST>
void HdnnpKernel<Real>::slopes(Neighbours &n, const Pass &pass)
{
  const Real *x = n.x.data(), *y = n.y.data(), *z = n.z.data(), *per_r = per_r_.data();
  Real *gx = n.gx.data(), *gy = n.gy.data(), *gz = n.gz.data(), *on_self = on_self_.data();
  const int j_end = n.begin[pass.outer] + n.count[pass.outer];
  const int k_begin = n.begin[pass.inner], k_end = k_begin + n.count[pass.inner];
  const Real *shape[SHAPES];
  Real *on_shape[SHAPES];
  // The energy is sum_s a_s(r_j) a_s(r_k) a_s(r_jk) q_s(cosine), q_s with these coefficients.
  double exact[SHAPES][HIGHEST + 1] = {};
  for (const Term &term : pass.terms)
    for (int p = 0; p <= term.zeta; p++) exact[term.shape][p] += term.weights[p] * gradient_[term.function];
  Real q[SHAPES][HIGHEST + 1], dq[SHAPES][HIGHEST + 1];
  for (int s = 0; s < SHAPES; s++) {
    shape[s] = shape_.data() + pass.channel[s] * room_;
    on_shape[s] = on_shape_.data() + pass.channel[s] * room_;
    for (int p = 0; p <= HIGHEST; p++) {
      q[s][p] = exact[s][p];
      dq[s][p] = p * exact[s][p];
    }
  }
  const Vector *kept = &at(triples_.data(), pass.start);
  for (int j = n.begin[pass.outer]; j < j_end; j++) {
    Real a[SHAPES], eta_a[SHAPES];
    for (int s = 0; s < SHAPES; s++) {
      a[s] = shape[s][j];
      eta_a[s] = pass.eta[s] * a[s];
    }
    Vector sum_x = {}, sum_y = {}, sum_z = {}, sum_apart = {}, sum_turn = {}, on_j[3] = {};
    const int start = pass.outer == pass.inner ? (j + 1) / LANES * LANES : k_begin;
    for (int k = start; k < k_end; k += LANES, kept += 3 + SHAPES) {
      const Vector cosine = kept[0], fc = kept[1], dfc = kept[2];
      Vector plain = {}, decayed = {}, turn = {};
      for (int s = 0; s < SHAPES; s++) {
        Vector value = all(q[s][HIGHEST]), slope = all(dq[s][HIGHEST]);
        for (int p = HIGHEST - 1; p >= 0; p--) value = value * cosine + q[s][p];
        for (int p = HIGHEST - 1; p >= 1; p--) slope = slope * cosine + dq[s][p];
        const Vector decay = kept[3 + s], a_k = at(shape[s], k), of_k = decay * value, of_both = of_k * a_k;
        plain += a[s] * of_both;
        decayed += eta_a[s] * of_both;
        turn += a[s] * (decay * a_k) * slope;
        on_j[s] += fc * of_both;
        at(on_shape[s], k) += (a[s] * fc) * of_k;
      }
      const Vector apart = 2 * (dfc * plain - fc * decayed);  // twice d/d(r_jk^2)
      turn *= fc;                                             // d/d(cosine)
      const Vector per_rk = at(per_r, k), mixed = turn * (per_r[j] * per_rk) - apart, self = turn * cosine;
      sum_x += mixed * at(x, k);
      sum_y += mixed * at(y, k);
      sum_z += mixed * at(z, k);
      sum_apart += apart;
      sum_turn += self;
      at(gx, k) += mixed * x[j];
      at(gy, k) += mixed * y[j];
      at(gz, k) += mixed * z[j];
      at(on_self, k) += apart - self * (per_rk * per_rk);
    }
    Real of_j[8];
    sums({sum_x, sum_y, sum_z, sum_apart, sum_turn, on_j[0], on_j[1], on_j[2]}, of_j);
    gx[j] += of_j[0];
    gy[j] += of_j[1];
    gz[j] += of_j[2];
    on_self[j] += of_j[3] - of_j[4] * per_r[j] * per_r[j];
    for (int s = 0; s < SHAPES; s++) on_shape[s][j] += of_j[5 + s];
  }
}

// The energy of the networks for the functions' values, and in gradient_ its derivatives by them.
template <class Real> double HdnnpKernel<Real>::network(const Atom &atom)
{
  const HdnnpElement &element = *atom.element;
  const std::vector<int> &nodes = element.nodes;
  const int last = nodes.size() - 1;
  for (int i = 0; i < nodes[0]; i++) outputs_[0][i] = (functions_[i] - element.offset[i]) * element.factor[i];
  for (int l = 0; l < last; l++) {
    const double *weights = element.weights[l].data();
    double *out = outputs_[l + 1].data();
    const int outputs = nodes[l + 1];
    std::copy(element.biases[l].begin(), element.biases[l].end(), out);
    for (int i = 0; i < nodes[l]; i++)
      for (int o = 0; o < outputs; o++) out[o] += outputs_[l][i] * weights[i * outputs + o];
    if (l + 1 == last) break;
    for (int o = 0; o < outputs; o++) {
      if (model_.softplus) {
        bends_[l + 1][o] = 1 / (1 + std::exp(-out[o]));
        out[o] = out[o] > 30 ? out[o] : std::log1p(std::exp(out[o]));
      } else {
        out[o] = std::tanh(out[o]);
        bends_[l + 1][o] = 1 - out[o] * out[o];
      }
    }
  }
  const double energy = outputs_[last][0] + element.atom_energy;
  bends_[last][0] = 1;
  for (int l = last - 1; l >= 0; l--) {
    const int inputs = nodes[l];
    double *back = gradient_.data();
    std::fill(back, back + inputs, 0.0);
    for (int o = 0; o < nodes[l + 1]; o++) {
      const double above = bends_[l + 1][o], *weights = atom.backward[l].data() + o * inputs;
      for (int i = 0; i < inputs; i++) back[i] += above * weights[i];
    }
    const double *factor = l > 0 ? bends_[l].data() : element.factor.data();
    double *result = l > 0 ? bends_[l].data() : back;
    for (int i = 0; i < inputs; i++) result[i] = back[i] * factor[i];
  }
  return energy;
}

template <class Real> double HdnnpKernel<Real>::evaluate(int centre, Neighbours &n, long long &warnings)
{
  Atom &atom = atoms_[centre];
  const HdnnpElement &element = *atom.element;
  const std::size_t channels = atom.channels, count = element.functions.size();
  std::fill(functions_.begin(), functions_.end(), 0.0);
  look_up(atom, n);
  std::size_t kept = 0;
  for (Pass &pass : atom.passes) {
    pass.start = kept;
    const bool swapped = n.count[pass.first] > n.count[pass.second];
    pass.outer = swapped ? pass.second : pass.first;
    pass.inner = swapped ? pass.first : pass.second;
    const std::size_t pairs = std::size_t(n.count[pass.outer]) * (whole(n.count[pass.inner]) / LANES);
    kept += pairs * (3 + pass.shapes) * LANES;
  }
  if (triples_.size() < kept) triples_.resize(kept + kept / 4);
  for (const Pass &pass : atom.passes) {
    if (pass.shapes == 1) pass.highest <= 4 ? moments<1, 4>(n, pass) : moments<1, 16>(n, pass);
    if (pass.shapes == 2) pass.highest <= 4 ? moments<2, 4>(n, pass) : moments<2, 16>(n, pass);
    if (pass.shapes == 3) pass.highest <= 4 ? moments<3, 4>(n, pass) : moments<3, 16>(n, pass);
  }
  for (std::size_t f = 0; f < count; f++)
    warnings += functions_[f] + atom.margin[f] < element.minimum[f] || functions_[f] - atom.margin[f] > element.maximum[f];
  const double energy = network(atom);
  for (Aligned<Real> *b : {&n.gx, &n.gy, &n.gz, &on_self_, &on_shape_}) b->clear();
  for (const Pass &pass : atom.passes) {
    if (pass.shapes == 1) pass.highest <= 4 ? slopes<1, 4>(n, pass) : slopes<1, 16>(n, pass);
    if (pass.shapes == 2) pass.highest <= 4 ? slopes<2, 4>(n, pass) : slopes<2, 16>(n, pass);
    if (pass.shapes == 3) pass.highest <= 4 ? slopes<3, 4>(n, pass) : slopes<3, 16>(n, pass);
  }
  for (std::size_t e = 0; e < n.count.size(); e++) {
    const std::vector<int> &radial = atom.radial[e];
    sums_.clear();
    for (std::size_t c = 0; c < radial.size(); c++) sums_.data()[c] = gradient_[radial[c]];
    for (int j = n.begin[e]; j < n.begin[e] + n.count[e]; j++) {
      const Real *slope = slope_.data() + j * channels;
      Vector radially = {};
      for (std::size_t v = 0; v * LANES < radial.size(); v++) radially += at(sums_.data(), v * LANES) * at(slope, v * LANES);
      Real along = sum(radially);
      for (int s = 0; s < atom.shapes; s++) along += on_shape_.data()[s * room_ + j] * slope[radial.size() + s];
      const Real self = on_self_.data()[j] + along * per_r_.data()[j];
      n.gx.data()[j] += self * n.x.data()[j];
      n.gy.data()[j] += self * n.y.data()[j];
      n.gz.data()[j] += self * n.z.data()[j];
    }
  }
  return energy;
}

}  // namespace silica
