// A potential of symmetry functions as plain numbers: the part of n2p2's files that changes energies, read from
// bohr and hartree into A and eV. What stands for something else is refused in one line.
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace silica {

constexpr double BOHR = 0.529177210903, HARTREE = 27.211386245988;

// One function; neighbours number the elements. Radial: exp(-eta (r - shift)^2) fc(r). Angular: see HdnnpKernel.
struct SymmetryFunction {
  bool angular = false;
  int first = 0, second = 0;
  double eta = 0, shift = 0, cutoff = 0;
  int zeta = 0, sign = 0;
};

// Inputs are (value - offset) factor; weights are input-major.
struct HdnnpElement {
  std::string symbol;
  int number = 0;
  double atom_energy = 0;
  std::vector<SymmetryFunction> functions;
  std::vector<double> minimum, maximum, offset, factor;
  std::vector<int> nodes;
  std::vector<std::vector<double>> weights, biases;
};

class HdnnpModel {
 public:
  explicit HdnnpModel(const std::string &folder)
  {
    read_input(folder + "/input.nn");
    for (HdnnpElement &one : elements) read_weights(folder, one);
    read_scaling(folder + "/scaling.data");
  }

  std::vector<HdnnpElement> elements;  // by atomic number
  bool softplus = false;               // in place of tanh
  double cutoff = 0;

 private:
  using Words = std::vector<std::string>;
  struct Line {
    int number;
    Words words;
  };

  static std::vector<Line> lines_of(const std::string &path)
  {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": not found, expected a file of n2p2");
    std::vector<Line> lines;
    std::string text, word;
    for (int number = 1; std::getline(file, text); number++) {
      std::istringstream words(text.substr(0, text.find('#')));
      Line line{number, {}};
      while (words >> word) line.words.push_back(word);
      if (!line.words.empty()) lines.push_back(line);
    }
    return lines;
  }

  static std::runtime_error wrong(const std::string &path, const Line &line, const std::string &expected)
  {
    std::string found;
    for (const std::string &word : line.words) found += (found.empty() ? "" : " ") + word;
    return std::runtime_error(path + ":" + std::to_string(line.number) + ": found '" + found + "', expected " +
                              expected);
  }

  static double number_of(const std::string &path, const Line &line, std::size_t word)
  {
    try {
      std::size_t used = 0;
      const double value = std::stod(line.words.at(word), &used);
      if (used == line.words[word].size() && std::isfinite(value)) return value;
    } catch (const std::logic_error &) {
    }
    throw wrong(path, line, "a number as word " + std::to_string(word + 1));
  }

  int element_of(const std::string &path, const Line &line, std::size_t word) const
  {
    for (std::size_t e = 0; e < elements.size(); e++)
      if (word < line.words.size() && elements[e].symbol == line.words[word]) return e;
    throw wrong(path, line, "an element of the potential as word " + std::to_string(word + 1));
  }

  void read_input(const std::string &path)
  {
    static const std::map<std::string, int> NUMBERS = {{"O", 8}, {"Si", 14}};
    const std::vector<Line> lines = lines_of(path);
    std::vector<int> hidden;
    bool activations = false;
    for (const Line &line : lines) {
      if (line.words[0] != "elements") continue;
      for (std::size_t w = 1; w < line.words.size(); w++) {
        const auto found = NUMBERS.find(line.words[w]);
        if (found == NUMBERS.end() || (w > 1 && elements.back().number >= found->second))
          throw wrong(path, line, "elements O Si, in the order of atomic numbers");
        elements.emplace_back();
        elements.back().symbol = found->first;
        elements.back().number = found->second;
      }
    }
    if (elements.empty()) throw std::runtime_error(path + ": found no elements, expected elements O Si");
    for (const Line &line : lines) {
      const std::string &key = line.words[0];
      if (key == "symfunction_short") {
        elements[element_of(path, line, 1)].functions.push_back(function(path, line));
      } else if (key == "atom_energy") {
        elements[element_of(path, line, 1)].atom_energy = number_of(path, line, 2) * HARTREE;
      } else if (key == "scale_symmetry_functions_sigma") {
        sigma_ = true;
      } else if (key == "scale_symmetry_functions") {
        range_ = true;
      } else if (key == "center_symmetry_functions") {
        centre_ = true;
      } else if (key == "global_nodes_short") {
        for (std::size_t w = 1; w < line.words.size(); w++) {
          const double nodes = number_of(path, line, w);
          if (nodes < 1 || nodes != std::floor(nodes)) throw wrong(path, line, "numbers of nodes");
          hidden.push_back(nodes);
        }
      } else if (key == "global_activation_short") {
        const Words &words = line.words;
        softplus = words.size() > 1 && words[1] == "p";
        const std::string letter = softplus ? "p" : "t";
        activations = words.size() > 2 && words.back() == "l" &&
            std::all_of(words.begin() + 1, words.end() - 1, [&](const std::string &w) { return w == letter; });
        if (!activations) throw wrong(path, line, "t (tanh) or p (softplus) for every hidden layer, then l");
        hidden_layers_ = words.size() - 2;
      } else if (key == "cutoff_type" && (line.words.size() < 2 || line.words[1] != "1")) {
        throw wrong(path, line, "cutoff_type 1 (cosine)");
      } else if ((key == "cutoff_alpha" || key == "scale_min_short") && number_of(path, line, 1) != 0) {
        throw wrong(path, line, key + " 0");
      } else if (key == "scale_max_short" && number_of(path, line, 1) != 1) {
        throw wrong(path, line, "scale_max_short 1");
      } else if (key == "normalize_nodes" || key == "mean_energy" || key == "conv_energy" || key == "conv_length" ||
                 (key == "nnp_type" && line.words != Words{key, "2G"} && line.words != Words{key, "2G-HDNNP"}) ||
                 key == "element_nodes_short" || key == "element_activation_short" ||
                 key == "element_symfunction_short" || key == "global_symfunction_short") {
        throw wrong(path, line, "a potential without " + key);
      }
    }
    if (!activations || hidden.size() != hidden_layers_)
      throw std::runtime_error(path + ": found " + std::to_string(hidden.size()) + " hidden layers in "
                               "global_nodes_short, expected as many as in global_activation_short");
    if (sigma_ && (range_ || centre_))
      throw std::runtime_error(path + ": found several ways of scaling, expected one");
    for (HdnnpElement &one : elements) {
      if (one.functions.empty()) throw std::runtime_error(path + ": found no function of " + one.symbol);
      std::sort(one.functions.begin(), one.functions.end(), [](const auto &a, const auto &b) {
        return std::tie(a.angular, a.cutoff, a.eta, a.shift, a.zeta, a.sign, a.first, a.second) <
            std::tie(b.angular, b.cutoff, b.eta, b.shift, b.zeta, b.sign, b.first, b.second);
      });
      for (const SymmetryFunction &f : one.functions) cutoff = std::max(cutoff, f.cutoff);
      one.nodes = {static_cast<int>(one.functions.size())};
      one.nodes.insert(one.nodes.end(), hidden.begin(), hidden.end());
      one.nodes.push_back(1);
    }
  }

  SymmetryFunction function(const std::string &path, const Line &line) const
  {
    SymmetryFunction f;
    const std::size_t words = line.words.size();
    const std::string kind = words > 2 ? line.words[2] : "";
    f.first = element_of(path, line, 3);
    if (kind == "2" && words == 7) {
      f.eta = number_of(path, line, 4) / (BOHR * BOHR);
      f.shift = number_of(path, line, 5) * BOHR;
      f.cutoff = number_of(path, line, 6) * BOHR;
      return f;
    }
    if (kind != "3" || (words != 9 && words != 10)) throw wrong(path, line, "a function of type 2 or 3");
    f.angular = true;
    f.second = element_of(path, line, 4);
    if (f.first > f.second) std::swap(f.first, f.second);
    f.eta = number_of(path, line, 5) / (BOHR * BOHR);
    f.sign = number_of(path, line, 6);
    f.zeta = number_of(path, line, 7);
    f.cutoff = number_of(path, line, 8) * BOHR;
    if (std::abs(number_of(path, line, 6)) != 1 || f.zeta != number_of(path, line, 7) || f.zeta < 1 || f.zeta > 16 ||
        (words == 10 && number_of(path, line, 9) != 0))
      throw wrong(path, line, "lambda 1 or -1, a whole zeta from 1 to 16 and rs 0");
    return f;
  }

  void read_weights(const std::string &folder, HdnnpElement &one) const
  {
    std::ostringstream name;
    name << folder << "/weights." << std::setw(3) << std::setfill('0') << one.number << ".data";
    std::vector<double> values;
    for (const Line &line : lines_of(name.str())) values.push_back(number_of(name.str(), line, 0));
    std::size_t expected = 0;
    for (std::size_t l = 0; l + 1 < one.nodes.size(); l++) expected += (one.nodes[l] + 1) * one.nodes[l + 1];
    if (values.size() != expected)
      throw std::runtime_error(name.str() + ": found " + std::to_string(values.size()) + " weights, expected " +
                               std::to_string(expected));
    auto at = values.begin();
    for (std::size_t l = 0; l + 1 < one.nodes.size(); l++) {
      const double unit = l + 2 == one.nodes.size() ? HARTREE : 1;
      for (auto *part : {&one.weights, &one.biases}) {
        const int n = part == &one.weights ? one.nodes[l] * one.nodes[l + 1] : one.nodes[l + 1];
        part->emplace_back(at, at + n);
        for (double &value : part->back()) value *= unit;
        at += n;
      }
    }
  }

  void read_scaling(const std::string &path)
  {
    std::size_t element = 0, function = 0;
    for (const Line &line : lines_of(path)) {
      if (line.words.size() < 5) continue;  // the energies' own statistics
      if (element == elements.size() || number_of(path, line, 0) != element + 1.0 ||
          number_of(path, line, 1) != function + 1.0)
        throw wrong(path, line, element == elements.size() ? "no more functions"
                                                           : "element " + std::to_string(element + 1) +
                            ", function " + std::to_string(function + 1));
      HdnnpElement &one = elements[element];
      const double least = number_of(path, line, 2), most = number_of(path, line, 3);
      one.minimum.push_back(least);
      one.maximum.push_back(most);
      const double mean = number_of(path, line, 4);
      one.offset.push_back(range_ && !centre_ ? least : sigma_ || centre_ ? mean : 0);
      one.factor.push_back(sigma_ ? 1 / number_of(path, line, 5) : range_ ? 1 / (most - least) : 1);
      if (++function == one.functions.size()) {
        element++;
        function = 0;
      }
    }
    if (element < elements.size())
      throw std::runtime_error(path + ": found no line of element " + std::to_string(element + 1) + ", function " +
                               std::to_string(function + 1));
  }

  bool sigma_ = false, range_ = false, centre_ = false;
  std::size_t hidden_layers_ = 0;
};

}  // namespace silica
