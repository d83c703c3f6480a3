// A deep potential of DeePMD-kit as plain numbers: read from the text file that deepmd_export.py writes and
// describes, evaluated in float64. Formulas: Zhang et al., PRL 120, 143001 (2018) and NeurIPS 31 (2018).
#pragma once

#include <cmath>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace silica {

// y = tanh(x W + b), with what skips the layer added where widths allow it; `weights` are input-major.
struct Layer {
  int inputs = 0, outputs = 0;
  std::vector<double> weights, bias, timestep;  // timestep: empty, or a factor for each output
};

// The smoothed 1/r of a descriptor and its derivative.
struct Switched {
  double value, slope;
};

// What a descriptor says of the surroundings: a net of s(r) for each (centre, neighbour) pair of types.
struct Descriptor {
  double smooth_from = 0, cutoff = 0;
  int axis = 0;       // columns of the embedding matrix used as axes; 0: radial only
  double factor = 1;  // of its output; DeePMD-kit's se_e2_r has one of its own
  std::vector<int> slots;                // sel: for each neighbour type
  std::vector<double> mean, sd, sd_direction;  // for each centre type
  std::vector<std::vector<Layer>> nets;  // centre * types + neighbour

  int width() const { return nets.empty() ? 0 : nets[0].back().outputs; }
  int all_slots() const
  {
    int sum = 0;
    for (int n : slots) sum += n;
    return sum;
  }

  Switched switched(double r) const
  {
    if (r >= cutoff) return {0.0, 0.0};
    if (r <= smooth_from) return {1 / r, -1 / (r * r)};
    const double range = cutoff - smooth_from, u = (r - smooth_from) / range;
    const double w = 1 + u * u * u * (-10 + u * (15 - 6 * u));
    const double slope = u * u * (-30 + u * (60 - 30 * u)) / range;
    return {w / r, slope / r - w / (r * r)};
  }
};

// The embedding net and its derivative at x.
inline void embed(const std::vector<Layer> &net, double x, std::vector<double> &value, std::vector<double> &slope)
{
  value = {x};
  slope = {1.0};
  for (const Layer &layer : net) {
    std::vector<double> next(layer.outputs), grad(layer.outputs);
    for (int o = 0; o < layer.outputs; o++) {
      double sum = layer.bias[o], dsum = 0;
      for (int i = 0; i < layer.inputs; i++) {
        sum += value[i] * layer.weights[i * layer.outputs + o];
        dsum += slope[i] * layer.weights[i * layer.outputs + o];
      }
      next[o] = std::tanh(sum);
      grad[o] = (1 - next[o] * next[o]) * dsum;
      if (layer.outputs == layer.inputs || layer.outputs == 2 * layer.inputs) {
        next[o] += value[o % layer.inputs];
        grad[o] += slope[o % layer.inputs];
      }
    }
    value = next;
    slope = grad;
  }
}

struct Model {
  std::vector<std::string> types;
  std::vector<double> atom_energy;  // eV, for each type
  Descriptor angular, radial;       // radial.nets is empty where the model has none
  std::vector<std::vector<Layer>> fitting;  // for each type

  explicit Model(const std::string &path);
  double cutoff() const { return std::max(angular.cutoff, radial.cutoff); }

 private:
  template <typename T> static T read(std::istream &in, const std::string &path)
  {
    T value;
    if (!(in >> value)) throw std::runtime_error(path + ": ends early or holds no number where one belongs");
    return value;
  }
  static void expect(std::istream &in, const std::string &word, const std::string &path)
  {
    const auto found = read<std::string>(in, path);
    if (found != word) throw std::runtime_error(path + ": found '" + found + "', expected '" + word + "'");
  }
  template <typename T> static std::vector<T> list(std::istream &in, int n, const std::string &path)
  {
    std::vector<T> values(n);
    for (T &value : values) value = read<T>(in, path);
    return values;
  }
  static std::vector<Layer> net(std::istream &in, const std::string &path)
  {
    expect(in, "net", path);
    std::vector<Layer> layers(read<int>(in, path));
    for (Layer &layer : layers) {
      expect(in, "layer", path);
      layer.inputs = read<int>(in, path);
      layer.outputs = read<int>(in, path);
      const int timesteps = read<int>(in, path);
      layer.weights = list<double>(in, layer.inputs * layer.outputs, path);
      layer.bias = list<double>(in, layer.outputs, path);
      layer.timestep = list<double>(in, timesteps, path);
    }
    return layers;
  }
  void descriptor(std::istream &in, const std::string &name, Descriptor &d, const std::string &path)
  {
    const int n = types.size();
    expect(in, name, path);
    d.smooth_from = read<double>(in, path);
    d.cutoff = read<double>(in, path);
    d.axis = read<int>(in, path);
    d.factor = read<double>(in, path);
    d.slots = list<int>(in, n, path);
    d.mean = list<double>(in, n, path);
    d.sd = list<double>(in, n, path);
    d.sd_direction = list<double>(in, n, path);
    for (int pair = 0; pair < n * n; pair++) d.nets.push_back(net(in, path));
  }
};

inline Model::Model(const std::string &path)
{
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + ": not found");
  expect(in, "deepmd-native", path);
  expect(in, "1", path);
  expect(in, "types", path);
  types = list<std::string>(in, read<int>(in, path), path);
  expect(in, "atom_energy", path);
  atom_energy = list<double>(in, types.size(), path);
  descriptor(in, "angular", angular, path);
  expect(in, "radial_descriptors", path);
  if (read<int>(in, path)) descriptor(in, "radial", radial, path);
  expect(in, "fitting", path);
  for (std::size_t t = 0; t < types.size(); t++) fitting.push_back(net(in, path));
  expect(in, "end", path);
}

}  // namespace silica
