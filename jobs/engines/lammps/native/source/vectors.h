// Vectors of floats as wide as the processor's, by the compiler's own extension (GCC 12, Clang), tanh on them, and
// arrays for them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace silica {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

// may_alias: arrays of floats are read as vectors.
typedef float Vector __attribute__((vector_size(4 * LANES), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef float Quad __attribute__((vector_size(16)));

inline Vector all(float value) { return value - Vector{}; }

// Numbers padded to whole vectors.
constexpr int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

// Numbers on a boundary of whole vectors, zero at first.
template <class Real> class Aligned {
 public:
  explicit Aligned(std::size_t n = 0) { resize(n); }
  void resize(std::size_t n)
  {
    const std::size_t bytes = (std::max<std::size_t>(n, 1) * sizeof(Real) + 63) / 64 * 64;
    data_.reset(static_cast<Real *>(std::aligned_alloc(64, bytes)));
    std::memset(data_.get(), 0, bytes);
    size_ = n;
  }
  std::size_t size() const { return size_; }
  Real *data() const { return data_.get(); }
  Real &operator[](std::size_t i) const { return data_.get()[i]; }
  Vector &vector(std::size_t i) const { return reinterpret_cast<Vector *>(data_.get())[i]; }
  void clear() { std::memset(data_.get(), 0, size_ * sizeof(Real)); }

 private:
  struct Free {
    void operator()(Real *p) const { std::free(p); }
  };
  std::unique_ptr<Real, Free> data_;
  std::size_t size_ = 0;
};
using Buffer = Aligned<float>;

// Sum of the vector's parts of four lanes each.
inline Quad folded(Vector a)
{
#if defined(__AVX512F__)
  typedef float Half __attribute__((vector_size(32)));
  const Half h = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) +
      __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif defined(__AVX__)
  return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
#else
  return a;
#endif
}

// The sums over lanes of four vectors.
inline Quad sums(Vector a, Vector b, Vector c, Vector d)
{
  const Quad p = folded(a), q = folded(b), r = folded(c), s = folded(d);
  const Quad pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
  const Quad rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
  return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
}

// tanh x = 1 - 2 / (exp(2x) + 1), exp by a power of two and a Taylor polynomial: 1e-7 in absolute terms.
inline Vector tanh(Vector x)
{
  const Vector limit = all(9.0f);  // tanh(9) is 1 in float32
  x = x > limit ? limit : (x < -limit ? -limit : x);
  const Vector halvings = x * 2.885390081777927f;  // 2 / ln 2
  const Integers k = __builtin_convertvector(halvings + (x < 0.0f ? all(-0.5f) : all(0.5f)), Integers);
  const Vector whole = __builtin_convertvector(k, Vector);
  // 2x - k ln 2 in two parts, the first exact in float32.
  const Vector f = (2.0f * x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vector e = all(1.0f / 5040);
  e = e * f + 1.0f / 720;
  e = e * f + 1.0f / 120;
  e = e * f + 1.0f / 24;
  e = e * f + 1.0f / 6;
  e = e * f + 0.5f;
  e = e * f + 1.0f;
  e = e * f + 1.0f;
  const Integers bits = (k + 127) << 23;
  Vector scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  return 1.0f - 2.0f / (e * scale + 1.0f);
}

}  // namespace silica
