// The boundary: JavaScript's arguments in, kernels out. An instance's functions carry it as their data, so a call finds its
// threads and kernels without a lookup; instances belong to their environment (a worker has its own) and end with it.
#include <napi.h>

#include "calls-attention.h"
#include "calls-experts.h"
#include "calls-optimizers.h"
#include "calls-products.h"
#include "calls-rows.h"
#include "levels.h"

namespace {

/** The instances of one environment. */
struct Instances {
  std::vector<std::unique_ptr<Instance>> all;
};

std::vector<std::string> strings(const Napi::Array& array) {
  std::vector<std::string> result;
  for (std::uint32_t i = 0; i < array.Length(); i++) result.push_back(array.Get(i).ToString());
  return result;
}

Napi::Array stringsOf(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (std::uint32_t i = 0; i < values.size(); i++) array.Set(i, values[i]);
  return array;
}

template <std::size_t count>
void setAll(Napi::Object object, Instance* instance, const Entry (&entries)[count]) {
  for (const Entry& entry : entries) {
    napi_value function = nullptr;
    napi_create_function(object.Env(), entry.name, NAPI_AUTO_LENGTH, entry.function, instance, &function);
    object.Set(entry.name, Napi::Value(object.Env(), function));
  }
}

/** letGo(id): frees what `hold` packed; a closed instance holds nothing. */
Napi::Value letGo(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->release(info[0].As<Napi::Number>().DoubleValue());
  return info.Env().Undefined();
}

Napi::Value close(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->close();
  return info.Env().Undefined();
}

/** Precision of the products from here on; a whole number, as in options.ts. */
Napi::Value setPrecision(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->context.precision = info[0].As<Napi::Number>().Int32Value();
  return info.Env().Undefined();
}

/** Bytes of scratch memory that an instance holds. */
Napi::Value bytes(const Napi::CallbackInfo& info) {
  const Instance* instance = static_cast<Instance*>(info.Data());
  return Napi::Number::New(info.Env(), instance->closed ? 0 : static_cast<double>(instance->pool->bytes()));
}

Napi::Object blasOf(Napi::Env env, const Blas& blas) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("vendor", blas.vendor);
  object.Set("version", blas.version);
  object.Set("path", blas.path);
  return object;
}

/**
 * create(isa, threads, precision, libraries, blasFrom): an object of kernels with close, bytes, isa, blas (null where none was
 * bound), and tried (what was wrong with libraries). The arguments were checked in TypeScript.
 */
Napi::Value create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string isa = info[0].ToString();
  const KernelTable* table = nullptr;
  for (const KernelTable* candidate : usableLevels()) {
    if (!table && (isa.empty() || isa == candidate->name)) table = candidate;
  }
  if (!table) {
    Napi::RangeError::New(env, "the instruction set " + isa + " cannot be used here").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const int threads = info[1].ToNumber().Int32Value();
  const int precision = info[2].ToNumber().Int32Value();
  Blas blas;
  std::vector<std::string> tried;
  const bool bound = bindBlas(strings(info[3].As<Napi::Array>()), blas, tried);
  auto owned = std::make_unique<Instance>(table, threads, precision, blas, info[4].ToNumber().DoubleValue());
  Instance* instance = owned.get();
  env.GetInstanceData<Instances>()->all.push_back(std::move(owned));

  Napi::Object object = Napi::Object::New(env);
  setAll(object, instance, PRODUCT_CALLS);
  setAll(object, instance, ROW_CALLS);
  setAll(object, instance, ATTENTION_CALLS);
  setAll(object, instance, EXPERT_CALLS);
  setAll(object, instance, OPTIMIZER_CALLS);
  object.Set("close", Napi::Function::New(env, close, "close", instance));
  object.Set("letGo", Napi::Function::New(env, letGo, "letGo", instance));
  object.Set("bytes", Napi::Function::New(env, bytes, "bytes", instance));
  object.Set("setPrecision", Napi::Function::New(env, setPrecision, "setPrecision", instance));
  object.Set("isa", table->name);
  object.Set("nativePrecisions", table->nativePrecisions);
  object.Set("blas", bound ? Napi::Value(blasOf(env, blas)) : env.Null());
  object.Set("tried", stringsOf(env, tried));
  return object;
}

/** levels(): names of the instruction sets that were compiled in, and of those that run here, best first. */
Napi::Value levels(const Napi::CallbackInfo& info) {
  std::vector<std::string> usable;
  for (const KernelTable* table : usableLevels()) usable.push_back(table->name);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("compiled", stringsOf(info.Env(), compiledLevels()));
  object.Set("usable", stringsOf(info.Env(), usable));
  return object;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instances()); // deleted with the environment, which joins the threads
  exports.Set("create", Napi::Function::New(env, create, "create"));
  exports.Set("levels", Napi::Function::New(env, levels, "levels"));
  return exports;
}

} // namespace

NODE_API_MODULE(gemmoe, initialise)
