// A broken internal assumption that would corrupt memory becomes an exception, never a crash.
// User errors are raised in Python before any of this code runs.
#pragma once

#include <stdexcept>
#include <string>

#define FASTGEN_CHECK(condition)                                                             \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      throw std::logic_error(std::string("fastgen internal error: expected ") + #condition + \
                             " at " + __FILE__ + ":" + std::to_string(__LINE__));            \
    }                                                                                        \
  } while (false)
