// The emulator's arithmetic against plain computations: rounding, conversions, tensor cores.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/kernels.hpp"

namespace {

using namespace fastgen::cuda;
using fastgen::test::About;
using fastgen::test::on_device;
using fastgen::test::results;
namespace emulator = fastgen::emulator;

// The nearest float16, found among all of them.
std::uint16_t nearest_half(double value) {
  if (value != value) return 0x7fff;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude >= 65520.0) return sign | 0x7c00;
  const auto size = [](int bits) {
    return bits < 0x400 ? bits * 0x1p-24
                        : (0x400 + bits % 0x400) * std::ldexp(1.0, bits / 0x400 - 25);
  };
  int low = 0, high = 0x7c00;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (size(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - size(low);
  const double above = (high == 0x7c00 ? 65536.0 : size(high)) - magnitude;
  const int bits = below < above || (below == above && low % 2 == 0) ? low : high;
  return static_cast<std::uint16_t>(sign | bits);
}

void test_halves() {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto half = __ushort_as_half(static_cast<unsigned short>(bits));
    const float value = __half2float(half);
    if ((bits & 0x7fff) > 0x7c00) {
      CHECK(value != value);
      continue;
    }
    if ((bits & 0x7fff) < 0x7c00)
      CHECK_EQUAL(nearest_half(value), static_cast<std::uint16_t>(bits));
    CHECK_EQUAL(__float2half_rn(value).bits, static_cast<std::uint16_t>(bits));
    CHECK_EQUAL(__double2half(value).bits, static_cast<std::uint16_t>(bits));
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const double value = std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())),
                                    -63 + static_cast<int>(random() % 48) - 30);
    const float narrow = static_cast<float>(value);
    CHECK_EQUAL(__double2half(value).bits, nearest_half(value));
    CHECK_EQUAL(__float2half_rn(narrow).bits, nearest_half(narrow));
  }
  // Next to the middle of two float16 numbers: rounding twice would go wrong.
  for (const double middle : {1.0 + 0x1p-11, 1.0 + 3 * 0x1p-11, 0x1.5p-24, 0x1p-25, 65520.0}) {
    for (const double value : {std::nextafter(middle, 0.0), middle, std::nextafter(middle, 1e9)}) {
      CHECK_EQUAL(__double2half(value).bits, nearest_half(value));
      CHECK_EQUAL(__double2half(-value).bits, nearest_half(-value));
    }
  }
}

void test_rounding() {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  for (int i = 0; i < 2000; ++i) {
    const double x = std::ldexp(uniform(random), static_cast<int>(random() % 60) - 30);
    const double y = std::ldexp(uniform(random), static_cast<int>(random() % 60) - 30);
    CHECK(static_cast<double>(__double2float_ru(x)) >= x);
    CHECK(static_cast<double>(std::nextafter(__double2float_ru(x), -HUGE_VALF)) < x);
    CHECK(static_cast<double>(__double2float_rd(x)) <= x);
    CHECK(static_cast<double>(std::nextafter(__double2float_rd(x), HUGE_VALF)) > x);
    CHECK_EQUAL(__double2float_rn(x), static_cast<float>(x));
    CHECK_EQUAL(__fma_rn(x, y, -x), std::fma(x, y, -x));
    CHECK_EQUAL(__dadd_rn(__dmul_rn(x, y), y), [&] {
      volatile double product = x * y;
      return product + y;
    }());
    const long double sum = static_cast<long double>(x) + y;
    CHECK(static_cast<long double>(__dadd_ru(x, y)) >= sum);
    CHECK(static_cast<long double>(__dadd_rd(x, y)) <= sum);
    const float a = static_cast<float>(x), b = static_cast<float>(y);
    const double product = double{a} * b, quotient = double{a} / b;
    CHECK(__fmul_ru(a, b) >= product && std::nextafter(__fmul_ru(a, b), -HUGE_VALF) < product);
    CHECK(__fmul_rd(a, b) <= product && std::nextafter(__fmul_rd(a, b), HUGE_VALF) > product);
    CHECK(__fdiv_ru(a, b) >= quotient && __fdiv_rd(a, b) <= quotient);
    CHECK(__fsqrt_ru(std::fabs(a)) >= std::sqrt(std::fabs(double{a})));
    CHECK(__fsqrt_rd(std::fabs(a)) <= std::sqrt(std::fabs(double{a})));
  }
  CHECK_EQUAL(__double2float_ru(1e300), std::numeric_limits<float>::infinity());
  CHECK_EQUAL(__double2float_rd(1e300), std::numeric_limits<float>::max());
  CHECK_EQUAL(__double2float_ru(-1e300), -std::numeric_limits<float>::max());
  CHECK_EQUAL(__double2float_ru(1e-300), std::numeric_limits<float>::denorm_min());
}

void test_integers() {
  CHECK_EQUAL(__popc(0xf0f0u) + __popcll(~0ull), 8 + 64);
  CHECK_EQUAL(__ffs(0) + 100 * __ffs(8), 400);
  CHECK_EQUAL(__clz(0) + 100 * __clz(1) + 10000 * __clz(-1), 32 + 3100);
  CHECK_EQUAL(__brev(1u), 0x80000000u);
  CHECK_EQUAL(__brev(0x12345678u), 0x1e6a2c48u);
  CHECK_EQUAL(__mul64hi(-3, std::int64_t{1} << 62), -1ll);
  CHECK_EQUAL(__dp4a(0x01ff8002, 0x7f02807f, 5), 127 - 2 + 128 * 128 + 254 + 5);
  CHECK_EQUAL(__double2int_rn(2.5) + 100 * __double2int_rn(3.5), 402);
  CHECK_EQUAL(__double2int_rn(1e20), std::numeric_limits<int>::max());
  CHECK_EQUAL(__double2int_rn(-1e20), std::numeric_limits<int>::min());
  CHECK_EQUAL(__double2int_rn(std::nan("")), std::numeric_limits<int>::min());
  CHECK_EQUAL(__double2uint_rn(std::nan("")), 0x80000000u);
  CHECK_EQUAL(__double2ll_rn(1e20), std::numeric_limits<long long>::max());
  CHECK_EQUAL(__float2int_rn(std::nanf("")), 0);
  CHECK_EQUAL(__double2ll_rn(-2.5), -2ll);
  CHECK_EQUAL(__float2int_rz(-2.7f), -2);
  CHECK_EQUAL(__int_as_float(0x3f800000) + __uint_as_float(0x40000000u), 3.0f);
  CHECK_EQUAL(__double_as_longlong(__longlong_as_double(0x123456789abcdefll)), 0x123456789abcdefll);
  CHECK_EQUAL(__byte_perm(0x33221100u, 0x77665544u, 0x7210u), 0x77221100u);
  CHECK_EQUAL(max(3, 4) + min(3, 4), 7);
  CHECK_EQUAL(max(std::nanf(""), 1.0f), 1.0f);
}

// ---- tensor cores

__global__ void load_kernel(const unsigned char* bytes, const int* rows, std::uint32_t* out) {
  unsigned char* shared = shared_memory();
  for (unsigned i = threadIdx.x; i < 4096; i += 32) shared[i] = bytes[i];
  __syncwarp();
  std::uint32_t words[4];
  load_matrices(words, shared_address(shared + 16 * rows[threadIdx.x]));
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = words[i];
}

void test_load_matrices() {
  std::mt19937 random(3);
  std::vector<unsigned char> bytes(4096);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  std::vector<int> rows(32);
  for (int& row : rows) row = static_cast<int>(random() % 256);
  const Stream stream = Stream::make(0);
  const auto a = on_device(bytes, stream);
  const auto b = on_device(rows, stream);
  stream.synchronize();
  const auto got = results<std::uint32_t>(128, load_kernel, 1, 32, 4096,
                                          static_cast<const unsigned char*>(a.data()),
                                          static_cast<const int*>(b.data()));
  std::vector<std::uint32_t> want;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      std::uint32_t word;
      std::memcpy(&word, bytes.data() + 16 * rows[8 * i + lane / 4] + 4 * (lane % 4), 4);
      want.push_back(word);
    }
  }
  CHECK_ARRAYS(got, want);
}

__global__ void banks_kernel(int pitch, std::uint32_t* out) {
  const std::uint32_t base = shared_address(shared_memory());
  std::uint32_t words[4];
  load_matrices(words, base + static_cast<std::uint32_t>(pitch) * threadIdx.x);
  out[threadIdx.x] = words[0];
}

void test_bank_conflicts() {
  const auto conflicts = [](int pitch) {
    const std::int64_t before = emulator::bank_conflicts();
    results<std::uint32_t>(32, banks_kernel, 1, 32, 32 * pitch, pitch);
    return emulator::bank_conflicts() - before;
  };
  CHECK_EQUAL(conflicts(16), std::int64_t{0});
  CHECK_EQUAL(conflicts(144), std::int64_t{0});
  CHECK_EQUAL(conflicts(32), std::int64_t{4});
  CHECK_EQUAL(conflicts(128), std::int64_t{28});
}

void test_exp2() {
  double worst = 0;
  for (float x = -126.0f; x < 127.0f; x += 0.0371f) {
    const double exact = std::exp2(double{x});
    worst = std::max(worst, std::fabs(exp2_approximate(x) - exact) / exact);
  }
  CHECK_AT_MOST(worst, 1.25 * 0x1p-22);
  CHECK(worst > 0x1p-22);
  CHECK_EQUAL(exp2_approximate(0.0f), 1.0f);
  CHECK_AT_MOST(std::fabs(exp2_approximate(-140.0f) - 0x1p-140f), 0x1p-148f);
  CHECK_EQUAL(exp2_flushed(-140.0f), 0.0f);
  CHECK_EQUAL(exp2_approximate(-HUGE_VALF), 0.0f);
  CHECK_EQUAL(exp2_approximate(200.0f), HUGE_VALF);
}

// Fragments as PTX describes them, from a [16][depth] and b [8][depth] with `depth` items in 32
// bytes.
template <class Item, class Sum>
__global__ void product_kernel(const Item* a, const Item* b, Sum* out) {
  constexpr int kPerWord = 4 / sizeof(Item), kDepth = 8 * kPerWord;
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, quad = lane % 4;
  const auto word = [](const Item* row, int first) {
    std::uint32_t bits;
    memcpy(&bits, row + first, 4);
    return bits;
  };
  std::uint32_t x[4], y[2];
  for (int i = 0; i < 4; ++i) {
    x[i] = word(a + (group + i % 2 * 8) * kDepth, (quad + i / 2 * 4) * kPerWord);
  }
  for (int i = 0; i < 2; ++i) y[i] = word(b + group * kDepth, (quad + i * 4) * kPerWord);
  Sum sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = out[(group + i / 2 * 8) * 8 + 2 * quad + i % 2];
  multiply_add(sum, x, y[0], y[1]);
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + 2 * quad + i % 2] = sum[i];
}

template <class Item, class Sum>
std::vector<Sum> products(const std::vector<Item>& a, const std::vector<Item>& b,
                          const std::vector<Sum>& sums) {
  const Stream stream = Stream::make(0);
  const auto x = on_device(a, stream);
  const auto y = on_device(b, stream);
  const auto z = on_device(sums, stream);
  launch("product_kernel", product_kernel<Item, Sum>, 1, 32, 0, stream, x.data(), y.data(),
         z.data());
  return downloaded(z, stream);
}

void test_int8_products() {
  std::mt19937 random(4);
  for (int round = 0; round < 50; ++round) {
    std::vector<signed char> a(16 * 32), b(8 * 32);
    std::vector<std::int32_t> sums(128), want(128);
    for (auto& v : a) v = static_cast<signed char>(round ? static_cast<int>(random()) : -128);
    for (auto& v : b) v = static_cast<signed char>(round ? static_cast<int>(random()) : -128);
    for (auto& v : sums) v = static_cast<std::int32_t>(random());
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        auto sum = static_cast<std::uint32_t>(sums[i * 8 + j]);
        for (int k = 0; k < 32; ++k)
          sum += static_cast<std::uint32_t>(a[i * 32 + k] * b[j * 32 + k]);
        want[i * 8 + j] = static_cast<std::int32_t>(sum);
      }
    }
    CHECK_ARRAYS(products(a, b, sums), want);
  }
}

// One block of the tensor core's sum, in integers: addends are multiples of 2^-150.
float block_sum(float sum, const std::vector<float>& a, const std::vector<float>& b, int i, int j,
                int k0, int depth, int fraction) {
  const auto exponent = [](float value, int least) {
    int e;
    std::frexp(value, &e);
    return std::max(e - 1, least);
  };
  int top = -1000;
  if (sum != 0) top = exponent(sum, -126);
  for (int k = k0; k < k0 + depth; ++k) {
    const float x = a[i * 16 + k], y = b[j * 16 + k];
    if (x != 0 && y != 0) top = std::max(top, exponent(x, -14) + exponent(y, -14));
  }
  if (top == -1000) return sum;
  const auto cut = [&](double value) {  // in units of 2^(top - fraction)
    return static_cast<std::int64_t>(std::ldexp(value, fraction - top));
  };
  std::int64_t total = cut(sum);
  for (int k = k0; k < k0 + depth; ++k) total += cut(double{a[i * 16 + k]} * b[j * 16 + k]);
  std::int64_t magnitude = std::llabs(total);
  int shift = 0;
  for (; magnitude >= 1 << 24; magnitude /= 2) ++shift;  // 24 bits, the rest is lost
  const double size = std::ldexp(static_cast<double>(magnitude), shift + top - fraction);
  return static_cast<float>(total < 0 ? -size : size);
}

void test_half_products() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const auto kind : {emulator::TensorCores::hopper, emulator::TensorCores::ampere}) {
    emulator::set_tensor_cores(kind);
    for (int round = 0; round < 60; ++round) {
      const About about("round " + std::to_string(round));
      std::vector<__half> a(16 * 16), b(8 * 16);
      std::vector<float> sums(128), want(128), x, y;
      // Like numbers, wildly different ones, subnormal ones, the largest, many zeros.
      const auto draw = [&] {
        const float value = normal(random);
        switch (round % 5) {
          case 0:
            return value;
          case 1:
            return std::ldexp(value, static_cast<int>(random() % 30) - 20);
          case 2:
            return std::ldexp(value, -16);
          case 3:
            return value < 0 ? -65504.0f : 65504.0f;
          default:
            return random() % 4 ? 0.0f : value;
        }
      };
      for (auto& v : a) v = __float2half_rn(draw());
      for (auto& v : b) v = __float2half_rn(draw());
      for (auto& v : sums) {
        v = round % 2 ? std::ldexp(normal(random), static_cast<int>(random() % 40) - 20) : 0.0f;
        if (round > 50) v = std::ldexp(normal(random), -100);
      }
      for (const __half v : a) x.push_back(v);
      for (const __half v : b) y.push_back(v);
      for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 8; ++j) {
          float sum = sums[i * 8 + j];
          if (kind == emulator::TensorCores::hopper) {
            sum = block_sum(sum, x, y, i, j, 0, 16, 25);
          } else {
            sum = block_sum(block_sum(sum, x, y, i, j, 0, 8, 24), x, y, i, j, 8, 8, 24);
          }
          want[i * 8 + j] = sum;
        }
      }
      const auto got = products(a, b, sums);
      // Zeros may differ in their sign.
      int wrong = 0;
      for (int i = 0; i < 128; ++i) wrong += got[i] != want[i];
      CHECK_EQUAL(wrong, 0);
    }
  }
  emulator::set_tensor_cores(emulator::TensorCores::hopper);
  std::vector<__half> a(16 * 16, __half(1.0f)), b(8 * 16, __half(1.0f));
  a[0] = __ushort_as_half(0x7c00);   // row 0: infinity
  a[16] = __ushort_as_half(0x7e00);  // row 1: NaN
  a[32] = __ushort_as_half(0x7c00);  // row 2: infinity minus infinity
  a[33] = __ushort_as_half(0xfc00);
  const auto got = products(a, b, std::vector<float>(128, 1.0f));
  CHECK_EQUAL(got[0], std::numeric_limits<float>::infinity());
  CHECK(got[8] != got[8] && got[16] != got[16]);
  CHECK_EQUAL(got[24], 17.0f);
}

__global__ void double_product_kernel(const double* a, const double* b, double* out) {
  const int lane = static_cast<int>(threadIdx.x);
  double sum[2] = {out[lane / 4 * 8 + 2 * (lane % 4)], out[lane / 4 * 8 + 2 * (lane % 4) + 1]};
  double above[2] = {sum[0], sum[1]}, below[2] = {sum[1], sum[0]};
  const double left = a[lane / 4 * 4 + lane % 4], right = b[lane / 4 * 4 + lane % 4];
  multiply_add(sum, left, right);
  out[lane / 4 * 8 + 2 * (lane % 4)] = sum[0];
  out[lane / 4 * 8 + 2 * (lane % 4) + 1] = sum[1];
  // Two blocks of rows, of which one is upside down.
  double turned[2] = {below[0], below[1]};
  const double other = a[(7 - lane / 4) * 4 + lane % 4];
  multiply_add(turned, other, right);
  multiply_add(above, below, left, other, right);
  for (int e = 0; e < 2; ++e) {
    if (above[e] != sum[e] || below[e] != turned[e]) out[0] = 0;
  }
}

void test_double_products() {
  std::mt19937 random(6);
  std::normal_distribution<double> normal;
  std::vector<double> a(32), b(32), sums(64), want(64);
  for (auto* values : {&a, &b, &sums}) {
    for (double& v : *values) v = normal(random);
  }
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      double sum = sums[i * 8 + j];
      for (int k = 0; k < 4; ++k) sum = std::fma(a[i * 4 + k], b[j * 4 + k], sum);
      want[i * 8 + j] = sum;
    }
  }
  const Stream stream = Stream::make(0);
  const auto x = on_device(a, stream);
  const auto y = on_device(b, stream);
  const auto z = on_device(sums, stream);
  launch("double_product_kernel", double_product_kernel, 1, 32, 0, stream, x.data(), y.data(),
         z.data());
  CHECK_ARRAYS(downloaded(z, stream), want);
}

}  // namespace

int main(int argc, char** argv) {
  return fastgen::test::run_tests({{"halves", test_halves},
                                   {"rounding", test_rounding},
                                   {"integers", test_integers},
                                   {"load_matrices", test_load_matrices},
                                   {"bank_conflicts", test_bank_conflicts},
                                   {"exp2", test_exp2},
                                   {"int8_products", test_int8_products},
                                   {"half_products", test_half_products},
                                   {"double_products", test_double_products}},
                                  argc, argv);
}
