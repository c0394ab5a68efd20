// Checks that count and report: a failed one prints where it stands, both values and what the
// running test was about, and the program goes on. The exit status says whether all passed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <mutex>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace fastgen::test {

#if defined(__x86_64__)
constexpr bool kEmulated = false;
#else
constexpr bool kEmulated =
    true;  // other architectures are run by an emulator, on fewer and smaller cases
#endif

constexpr std::int64_t kMaxReports = 40;

inline std::atomic<std::int64_t> passed{0}, failed{0};
inline std::mutex report_mutex;
inline thread_local std::vector<std::string> subjects;

// What the checks in this scope are about.
class About {
 public:
  explicit About(std::string subject) { subjects.push_back(std::move(subject)); }
  ~About() { subjects.pop_back(); }
  About(const About&) = delete;
  About& operator=(const About&) = delete;
};

template <class T>
std::string show(const T& value) {
  std::ostringstream text;
  text.precision(17);
  if constexpr (std::is_arithmetic_v<T>) {
    text << +value;  // bytes as numbers
  } else {
    text << value;
  }
  return text.str();
}

// Equality to the last bit: -0 differs from +0, NaN equals NaN. Bits, not operators, so that it
// holds whatever the floating-point mode.
template <class T>
bool same(const T& a, const T& b) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::memcmp(&a, &b, sizeof(T)) == 0 || (a != a && b != b);
  } else {
    return a == b;
  }
}

inline void report(const char* file, int line, const std::string& what) {
  if (failed.fetch_add(1) >= kMaxReports) return;
  std::string about;
  for (const std::string& subject : subjects) about += (about.empty() ? "" : ", ") + subject;
  const std::lock_guard<std::mutex> lock(report_mutex);
  std::fprintf(stderr, "%s:%d: %s [%s]\n", file, line, what.c_str(), about.c_str());
}

inline void check(bool holds, const char* file, int line, const char* text) {
  if (holds) {
    ++passed;
  } else {
    report(file, line, std::string("expected ") + text);
  }
}

template <class T>
void check_equal(const T& got, const T& want, const char* file, int line, const char* text) {
  if (same(got, want)) {
    ++passed;
  } else {
    report(file, line, std::string(text) + ": got " + show(got) + ", want " + show(want));
  }
}

inline void check_at_most(double got, double limit, const char* file, int line, const char* text) {
  if (got <= limit) {
    ++passed;
  } else {
    report(file, line, std::string(text) + ": got " + show(got) + ", at most " + show(limit));
  }
}

// One check for two whole arrays.
template <class T>
void check_arrays(const std::vector<T>& got, const std::vector<T>& want, const char* file, int line,
                  const char* text) {
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
    if (!same(got[i], want[i]) && wrong++ == 0) first = i;
  }
  if (wrong == 0 && got.size() == want.size()) {
    ++passed;
    return;
  }
  std::string what =
      std::string(text) + ": " + show(wrong) + " of " + show(want.size()) + " differ";
  if (got.size() != want.size()) what += ", got " + show(got.size()) + " values";
  if (wrong)
    what += "; at " + show(first) + " got " + show(got[first]) + ", want " + show(want[first]);
  report(file, line, what);
}

struct Test {
  const char* name;
  void (*function)();
};

// Runs the tests, or those named on the command line; the exit status of the program.
inline int run_tests(std::initializer_list<Test> tests, int argc, char** argv) {
  for (const Test& test : tests) {
    bool wanted = argc <= 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strcmp(argv[i], test.name) == 0;
    if (!wanted) continue;
    const About about(test.name);
    const auto start = std::chrono::steady_clock::now();
    try {
      test.function();
    } catch (const std::exception& error) {
      report(test.name, 0, std::string("exception: ") + error.what());
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%-28s %6.2f s\n", test.name, seconds);
  }
  std::printf("%lld passed", static_cast<long long>(passed.load()));
  if (failed.load()) std::printf(", %lld failed", static_cast<long long>(failed.load()));
  std::printf("\n");
  return failed.load() == 0 && passed.load() > 0 ? 0 : 1;
}

}  // namespace fastgen::test

#define CHECK(condition) fastgen::test::check(condition, __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(got, want) fastgen::test::check_equal(got, want, __FILE__, __LINE__, #got)
#define CHECK_AT_MOST(got, limit) fastgen::test::check_at_most(got, limit, __FILE__, __LINE__, #got)
#define CHECK_ARRAYS(got, want) fastgen::test::check_arrays(got, want, __FILE__, __LINE__, #got)
#define CHECK_THROWS(expression, Exception)                                                 \
  do {                                                                                      \
    bool thrown = false;                                                                    \
    try {                                                                                   \
      expression;                                                                           \
    } catch (const Exception&) {                                                            \
      thrown = true;                                                                        \
    }                                                                                       \
    fastgen::test::check(thrown, __FILE__, __LINE__, #Exception " thrown by " #expression); \
  } while (false)
