// One call from JavaScript: its arguments, each checked before a kernel sees it. What is wrong becomes a TypeError or RangeError
// that names the kernel and the argument; no kernel runs then.
#pragma once
#include <cmath>
#include <string>

#include "instance.h"
#include "node_api.h"

class Call {
 public:
  static constexpr std::size_t MOST_ARGUMENTS = 24;

  Call(napi_env env, napi_callback_info info, const char* kernel) : env_(env), kernel_(kernel) {
    std::size_t count = MOST_ARGUMENTS;
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, values_, nullptr, &data);
    instance_ = static_cast<Instance*>(data);
    if (instance_->closed) type("the backend was closed");
  }

  bool ok() const { return ok_; }
  Instance& instance() const { return *instance_; }
  Context* context() const { return &instance_->context; }
  const KernelTable& table() const { return *instance_->table; }

  /** Elements of a Float32Array that holds at least `needed`. */
  float* floats(int index, const char* name, double needed) {
    return static_cast<float*>(array(index, name, needed, napi_float32_array, "Float32Array"));
  }
  /** As `floats`, or null. */
  float* floatsOrNull(int index, const char* name, double needed) {
    napi_valuetype found = napi_undefined;
    napi_typeof(env_, values_[index], &found);
    return found == napi_null || found == napi_undefined ? nullptr : floats(index, name, needed);
  }
  std::int32_t* intsOrNull(int index, const char* name, double needed) {
    napi_valuetype found = napi_undefined;
    napi_typeof(env_, values_[index], &found);
    return found == napi_null || found == napi_undefined ? nullptr : ints(index, name, needed);
  }
  std::int32_t* ints(int index, const char* name, double needed) {
    return static_cast<std::int32_t*>(array(index, name, needed, napi_int32_array, "Int32Array"));
  }
  double* doubles(int index, const char* name, double needed) {
    return static_cast<double*>(array(index, name, needed, napi_float64_array, "Float64Array"));
  }
  std::uint16_t* halves(int index, const char* name, double needed) {
    return static_cast<std::uint16_t*>(array(index, name, needed, napi_uint16_array, "Uint16Array"));
  }
  /** Elements of the array that was read last. */
  std::size_t length() const { return length_; }

  double number(int index, const char* name) {
    double value = 0;
    if (ok_ && napi_get_value_double(env_, values_[index], &value) != napi_ok) type(std::string(name) + " must be a number");
    return value;
  }
  bool flag(int index, const char* name) {
    bool value = false;
    if (ok_ && napi_get_value_bool(env_, values_[index], &value) != napi_ok) type(std::string(name) + " must be a boolean");
    return value;
  }
  /** A whole number from `least` to 2^31 - 1. */
  long size(int index, const char* name, double least = 0) { return whole(index, name, least, 2147483647.0); }
  /** A whole number from 0 to 2^53: offsets in arrays. */
  long offset(int index, const char* name) { return whole(index, name, 0, 9007199254740991.0); }

  /** Refuses values outside [0, end). */
  void within(const std::int32_t* values, double count, const char* name, double end) {
    if (!ok_) return;
    for (long i = 0; i < static_cast<long>(count); i++) {
      if (values[i] < 0 || values[i] >= end) return outside(name, i, values[i], end);
    }
  }
  /** Refuses offsets that are not 0 <= … <= end in rising order. */
  void rising(const std::int32_t* values, long count, const char* name, double end) {
    if (!ok_) return;
    for (long i = 0; i < count; i++) {
      if (values[i] < (i == 0 ? 0 : values[i - 1]) || values[i] > end) return outside(name, i, values[i], end + 1);
    }
  }
  void check(bool holds, const std::string& message) {
    if (ok_ && !holds) range(message);
  }

  napi_value value(double number) {
    napi_value result = nullptr;
    napi_create_double(env_, number, &result);
    return result;
  }

 private:
  void* array(int index, const char* name, double needed, napi_typedarray_type wanted, const char* type) {
    if (!ok_) return nullptr;
    napi_typedarray_type found = napi_int8_array;
    void* data = nullptr;
    length_ = 0;
    const napi_status status = napi_get_typedarray_info(env_, values_[index], &found, &length_, &data, nullptr, nullptr);
    if (status != napi_ok || found != wanted) {
      this->type(std::string(name) + " must be a " + type);
      return nullptr;
    }
    if (needed > static_cast<double>(length_)) {
      range(std::string(name) + " has " + std::to_string(length_) + " elements, not the " + count(needed) + " that are needed");
    }
    return data;
  }

  long whole(int index, const char* name, double least, double most) {
    const double value = number(index, name);
    if (ok_ && !(value >= least && value <= most && value == std::floor(value))) {
      range(std::string(name) + " must be a whole number from " + count(least) + " to " + count(most) + ", not " + count(value));
      return 0;
    }
    return static_cast<long>(value);
  }

  static std::string count(double value) {
    if (value == std::floor(value) && std::fabs(value) < 9e15) return std::to_string(static_cast<long long>(value));
    return std::to_string(value);
  }
  void outside(const char* name, long index, long found, double end) {
    range(std::string(name) + "[" + std::to_string(index) + "] is " + std::to_string(found) + ", outside 0 to " + count(end - 1));
  }
  void range(const std::string& message) {
    ok_ = false;
    napi_throw_range_error(env_, nullptr, (std::string(kernel_) + ": " + message).c_str());
  }
  void type(const std::string& message) {
    if (!ok_) return;
    ok_ = false;
    napi_throw_type_error(env_, nullptr, (std::string(kernel_) + ": " + message).c_str());
  }

  napi_env env_;
  const char* kernel_;
  napi_value values_[MOST_ARGUMENTS] = {};
  Instance* instance_ = nullptr;
  std::size_t length_ = 0;
  bool ok_ = true;
};

/** A kernel's function as JavaScript calls it. */
struct Entry {
  const char* name;
  napi_callback function;
};

#define KERNEL(name) napi_value name(napi_env env, napi_callback_info info)
#define ENTRY(name) {#name, name}
