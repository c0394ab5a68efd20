// The dealing of tasks: each exactly once, whatever the number of threads, deadlines, exceptions,
// and however many calls run at once.
#include "cpu/parallel.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/check.hpp"

namespace fastgen::test {
namespace {

using cpu::Deadline;
using cpu::deadline_after;
using cpu::run_tasks;
using cpu::Tasks;

// How often each task was done.
class Done {
 public:
  explicit Done(std::int64_t tasks) : times_(static_cast<std::size_t>(tasks)) {}
  void add(std::int64_t task) { ++times_[static_cast<std::size_t>(task)]; }
  bool all_once() const {
    for (const auto& times : times_) {
      if (times.load() != 1) return false;
    }
    return true;
  }
  std::int64_t total() const {
    std::int64_t sum = 0;
    for (const auto& times : times_) sum += times.load();
    return sum;
  }

 private:
  std::vector<std::atomic<int>> times_;
};

void each_task_once() {
  for (const std::int64_t count : {0, 1, 2, 3, 7, 100, 5000}) {
    for (const int threads : {1, 2, 3, 4, 9}) {
      const About about(std::to_string(count) + " tasks, " + std::to_string(threads) + " threads");
      Tasks tasks;
      tasks.reset(count);
      Done done(count);
      std::atomic<bool> in_range{true};
      const bool finished =
          run_tasks(tasks, threads, deadline_after(600), [&](int worker, std::int64_t task) {
            if (worker < 0 || worker >= threads) in_range = false;
            done.add(task);
          });
      CHECK(finished);
      CHECK(in_range.load());
      CHECK(done.all_once());
      CHECK_EQUAL(tasks.fraction(), 1.0);
      // Called again there is nothing left.
      CHECK(run_tasks(tasks, threads, deadline_after(600),
                      [&](int, std::int64_t task) { done.add(task); }));
      CHECK(done.all_once());
    }
  }
}

void workers_have_own_numbers() {
  Tasks tasks;
  tasks.reset(400);
  std::vector<std::atomic<int>> inside(4);
  for (auto& flag : inside) flag.store(0);
  std::atomic<bool> shared{false};
  run_tasks(tasks, 4, deadline_after(600), [&](int worker, std::int64_t) {
    if (inside[worker].fetch_add(1) != 0) shared = true;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    inside[worker].fetch_sub(1);
  });
  CHECK(!shared.load());  // scratch by worker number needs no lock
}

void deadlines_resume() {
  for (const int threads : {1, 2, 4}) {
    const About about(std::to_string(threads) + " threads");
    Tasks tasks;
    tasks.reset(37);
    Done done(37);
    int calls = 0;
    bool finished = false;
    while (!finished && calls < 1000) {
      const std::int64_t before = done.total();
      const double fraction = tasks.fraction();
      finished = run_tasks(tasks, threads, deadline_after(0),
                           [&](int, std::int64_t task) { done.add(task); });
      ++calls;
      CHECK(done.total() > before);  // at least one task per call
      CHECK(done.total() - before <= threads);
      CHECK(tasks.fraction() > fraction);
      CHECK_EQUAL(finished, done.total() == 37);
    }
    CHECK(finished);
    CHECK(done.all_once());
    CHECK(calls >= 37 / threads);
  }
  // A deadline that was over long ago is no different.
  Tasks tasks;
  tasks.reset(3);
  int count = 0;
  const Deadline past = std::chrono::steady_clock::now() - std::chrono::hours(1);
  CHECK(!run_tasks(tasks, 1, past, [&](int, std::int64_t) { ++count; }));
  CHECK_EQUAL(count, 1);
  const Deadline now = deadline_after(-5);  // negative: at once
  CHECK(now <= std::chrono::steady_clock::now());
  tasks.reset(2);
  CHECK_EQUAL(tasks.fraction(), 0.0);
  CHECK(run_tasks(tasks, 1, deadline_after(600), [&](int, std::int64_t) { ++count; }));
  CHECK_EQUAL(count, 3);
}

void deadline_is_kept() {
  Tasks tasks;
  tasks.reset(1000000);
  const auto start = std::chrono::steady_clock::now();
  const bool finished = run_tasks(tasks, 3, deadline_after(0.05), [](int, std::int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(!finished);
  CHECK(seconds.count() >= 0.05);
  CHECK_AT_MOST(seconds.count(), 5.0);
}

struct Failure : std::runtime_error {
  explicit Failure(std::int64_t task) : std::runtime_error("task failed"), task(task) {}
  std::int64_t task;
};

void exceptions_propagate() {
  for (const int threads : {1, 2, 4}) {
    for (const std::int64_t bad : {0, 5, 199}) {
      const About about(std::to_string(threads) + " threads, task " + std::to_string(bad));
      Tasks tasks;
      tasks.reset(200);
      Done done(200);
      std::atomic<int> running{0};
      std::int64_t failed_task = -1;
      try {
        run_tasks(tasks, threads, deadline_after(600), [&](int, std::int64_t task) {
          ++running;
          done.add(task);
          if (task == bad) {
            --running;
            throw Failure(task);
          }
          std::this_thread::sleep_for(std::chrono::microseconds(20));
          --running;
        });
      } catch (const Failure& failure) {
        failed_task = failure.task;
      }
      CHECK_EQUAL(failed_task, bad);
      CHECK_EQUAL(running.load(), 0);  // every thread has ended
      if (threads == 1) CHECK_EQUAL(done.total(), bad + 1);
      // What was dealt is not dealt again; the rest still can be.
      run_tasks(tasks, threads, deadline_after(600),
                [&](int, std::int64_t task) { done.add(task); });
      CHECK(done.all_once());
    }
  }
  // All fail at once: one exception arrives, and the program lives.
  Tasks tasks;
  tasks.reset(64);
  CHECK_THROWS(
      run_tasks(tasks, 4, deadline_after(600), [](int, std::int64_t task) { throw Failure(task); }),
      Failure);
}

void nested_calls() {
  Tasks outer;
  outer.reset(6);
  std::vector<Done> done;
  for (int i = 0; i < 6; ++i) done.emplace_back(50);
  const bool finished = run_tasks(outer, 3, deadline_after(600), [&](int, std::int64_t task) {
    Tasks inner;
    inner.reset(50);
    while (!run_tasks(inner, 2, deadline_after(0), [&](int, std::int64_t part) {
      done[static_cast<std::size_t>(task)].add(part);
    })) {
    }
  });
  CHECK(finished);
  for (const Done& inner : done) CHECK(inner.all_once());
}

void concurrent_calls() {
  std::vector<std::thread> callers;
  std::vector<Done> done;
  for (int i = 0; i < 5; ++i) done.emplace_back(300);
  std::atomic<int> failures{0};
  for (int caller = 0; caller < 5; ++caller) {
    callers.emplace_back([&, caller] {
      Tasks tasks;
      tasks.reset(300);
      try {
        while (!run_tasks(tasks, 3, deadline_after(1e-4), [&](int, std::int64_t task) {
          done[static_cast<std::size_t>(caller)].add(task);
          if (caller == 2 && task == 150) throw Failure(task);  // disturbs no other call
        })) {
        }
      } catch (const Failure&) {
        ++failures;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQUAL(failures.load(), 1);
  for (int caller = 0; caller < 5; ++caller) {
    if (caller != 2) CHECK(done[static_cast<std::size_t>(caller)].all_once());
  }
}

#if defined(__SSE2__)
// Work runs with subnormals kept and rounding to nearest; the caller's own mode comes back.
void floating_point_mode() {
  constexpr unsigned kOther = 0x1f80 | 0x8040 | 0x2000;  // flush to zero, both ways; round down
  const unsigned before = _mm_getcsr();
  for (const bool fails : {false, true}) {
    Tasks tasks;
    tasks.reset(40);
    std::atomic<int> wrong{0};
    _mm_setcsr(kOther);
    try {
      run_tasks(tasks, 3, deadline_after(600), [&](int, std::int64_t task) {
        if ((_mm_getcsr() & 0xffc0u) != 0x1f80u) ++wrong;
        if (fails && task == 20) throw Failure(task);
      });
    } catch (const Failure&) {
    }
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    CHECK_EQUAL(after & 0xffc0u, kOther);
    CHECK_EQUAL(wrong.load(), 0);
  }
}
#else
void floating_point_mode() {}
#endif

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"each_task_once", each_task_once},
                    {"workers_have_own_numbers", workers_have_own_numbers},
                    {"deadlines_resume", deadlines_resume},
                    {"deadline_is_kept", deadline_is_kept},
                    {"exceptions_propagate", exceptions_propagate},
                    {"nested_calls", nested_calls},
                    {"concurrent_calls", concurrent_calls},
                    {"floating_point_mode", floating_point_mode}},
                   argc, argv);
}
