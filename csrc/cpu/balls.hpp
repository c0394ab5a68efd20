// Balls around the rows of both sets, with any number of radii, counted in one walk over the pairs:
// proven inside or outside by the certificate, the rest by the canonical distance.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/join.hpp"

namespace fastgen::cpu {

class Balls {
 public:
  // sq_radii_x: [radii, n], sq_radii_y: [radii, m], float64 squares, either may be null.
  // closed: a point at the radius is inside.
  Balls(const Prepared& x, const Prepared& y, const double* sq_radii_x, const double* sq_radii_y,
        std::int64_t radii, bool closed, int threads);
  ~Balls();

  double advance(double seconds);
  std::int64_t pairs() const;
  std::int64_t hits() const { return hits_.load(); }
  std::int64_t rechecked() const { return rechecked_.load(); }
  std::int64_t radii() const { return radii_; }

  // Counts by original row, [radii, n] or [radii, m].
  void y_in_x(std::int64_t* out) const;        // rows of y inside the ball of x_i
  void x_balls_of_y(std::int64_t* out) const;  // balls of x that contain y_j
  void x_in_y(std::int64_t* out) const;        // rows of x inside the ball of y_j
  void y_balls_of_x(std::int64_t* out) const;  // balls of y that contain x_i

 private:
  // What one set brings: a radius per row, counts per distinct row (slot).
  struct Side {
    const Prepared* set = nullptr;
    const double* sq_radii = nullptr;  // [radii, n] or null
    bool by_row = false;               // copies of a row have different radii: `inside` is by row
    std::vector<std::atomic<std::int64_t>> inside;  // [radii, slots or rows]
    std::vector<std::atomic<std::int64_t>> balls;   // [radii, slots]

    double sq_radius(std::int64_t r, std::int64_t slot) const {
      return sq_radii[r * set->rows().n + set->first_row(slot)];
    }
    std::int64_t inside_width() const { return by_row ? set->rows().n : set->slots(); }
    void begin(const Prepared& rows, const double* radii_given, std::int64_t radii);
    // Radii as float bounds, [radii, slots + kMaxBlockColumns]; -inf where there is no ball.
    std::vector<float> inner, outer, reach;
    void scale(std::int64_t radii, double sq_unit);
    std::vector<std::int32_t> copies;
    std::int64_t stride() const { return set->slots() + kMaxBlockColumns; }
  };
  class Count;

  void scan_slot(std::int64_t slot, double* row);
  bool within(double sq, double sq_radius) const {
    return closed_ ? sq <= sq_radius : sq < sq_radius;
  }
  void expand(const Side& side, const std::vector<std::atomic<std::int64_t>>& counts,
              std::int64_t width, std::int64_t* out) const;

  Side x_, y_;
  std::int64_t radii_;
  bool closed_, scan_ = false, may_switch_ = false;
  int threads_;
  std::unique_ptr<Join> join_;
  std::unique_ptr<Count> count_;
  Tasks tasks_;
  bool terms_ready_ = false, settling_ = false;
  std::atomic<std::int64_t> hits_{0}, rechecked_{0};
};

}  // namespace fastgen::cpu
