// Balls around the rows of both sets, with any number of radii, counted in one walk over the pairs:
// proven inside or outside by the join's bounds, the rest by the canonical distance.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/join.hpp"
#include "cuda/products.hpp"

namespace fastgen::cuda {

// What kernels know of one side; device pointers, by slot [radii, slots] unless said.
struct BallSideView {
  RowView rows;
  const std::int32_t *first_row, *copies;
  std::int64_t slots, n;
  bool balls;  // whether there are balls around these rows
  // Squared radii as given, -infinity where there is no ball. Copies of a row may have different ones:
  // the least and the largest of them; the same pointer where no copies differ.
  const double *least, *most;
  // Only where some do: the radii by original row [radii, n], and rows of every slot.
  const double* by_row;
  const std::int64_t* start;          // [slots]
  const std::int32_t* members;        // [n]
  unsigned long long* inside;         // points inside the ball, of all copies alike
  unsigned long long* inside_by_row;  // [radii, n] and those of some copies
  unsigned long long* balls_around;   // balls of the other side that contain the row
};

struct BallCounters {
  unsigned open, placed;      // pairs of a batch that bounds leave open, and their places
  unsigned long long looked;  // in all
};

class Balls {
 public:
  // sq_radii_x: [radii, n], sq_radii_y: [radii, m], float64 squares on the host, either may be null.
  // closed: a point at the radius is inside. A share's counts add up to the whole's.
  Balls(const Prepared& x, const Prepared& y, const double* sq_radii_x, const double* sq_radii_y,
        std::int64_t radii, bool closed, Share share = {});
  ~Balls();

  double advance(double seconds);
  bool done() const { return join_.done(); }
  std::int64_t pairs() const { return join_.pairs(); }
  std::int64_t hits() const { return hits_; }
  std::int64_t rechecked() const { return rechecked_; }

  // Counts by original row, [radii, n] or [radii, m].
  void y_in_x(std::int64_t* out) const;        // rows of y inside the ball of x_i
  void x_balls_of_y(std::int64_t* out) const;  // balls of x that contain y_j
  void x_in_y(std::int64_t* out) const;        // rows of x inside the ball of y_j
  void y_balls_of_x(std::int64_t* out) const;  // balls of y that contain x_i

  void set_choice(const ProductChoice& choice) { choice_ = choice; }

 private:
  struct Side {
    Side(const Prepared& set, const double* sq_radii, std::int64_t radii, const Stream& stream,
         double sq_unit);
    void allocate_counts(bool others_have_balls, const Stream& stream);
    BallSideView view() const;

    const Prepared* set;
    std::int64_t radii;
    bool balls, by_row = false;
    std::vector<double> part_reach;  // the largest radius of each part, in the join's units
    DeviceBuffer<double> least, most, given;
    DeviceBuffer<std::int64_t> start;
    DeviceBuffer<std::int32_t> members;
    DeviceBuffer<float> inside_of, outside_of;  // radii as float bounds in the join's units
    DeviceBuffer<unsigned long long> inside, inside_by_row, balls_around;
  };
  class Count;

  void expand(const Side& side, const DeviceBuffer<unsigned long long>& counts,
              const DeviceBuffer<unsigned long long>* by_row, std::int64_t* out) const;

  Stream stream_;
  std::int64_t radii_;
  bool closed_;
  Join join_;
  Side x_, y_;
  std::unique_ptr<Count> count_;
  ProductChoice choice_;
  DeviceBuffer<BallCounters> counters_;
  std::int64_t hits_ = 0, rechecked_ = 0;
};

}  // namespace fastgen::cuda
