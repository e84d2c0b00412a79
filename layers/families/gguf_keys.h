#pragma once
/// Strict reading and writing of the keys "ARCHITECTURE.NAME" of a model in a GGUF file.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>

#include "core/config.h"
#include "core/gguf_writer.h"

namespace reverie {

struct FamilyNames;

/// Keys by NAME. Each is read, known to change nothing here, or refused (refuse_unread):
/// llama.cpp adds keys that change a model's results. DataError for every refusal.
class GgufKeys {
 public:
  explicit GgufKeys(std::shared_ptr<const GgufFile> file);
  const GgufFile& file() const { return *file_; }
  const std::string& architecture() const { return architecture_; }

  bool has(const std::string& name) const;
  int64_t integer(const std::string& name, std::optional<int64_t> fallback = {});
  int64_t positive(const std::string& name, std::optional<int64_t> fallback = {});
  double number(const std::string& name, std::optional<double> fallback = {});
  std::string text(const std::string& name, std::optional<std::string> fallback = {});

  int64_t heads() { return positive("attention.head_count"); }
  /// Sizes that every model has: vocab_size, block_size, n_layer, n_head, n_embd, n_hidden.
  Json sizes();

  /// Keys that begin so change nothing in this family.
  void ignore(const std::string& beginning) { ignored_.insert(beginning); }
  /// Where it is given, it must be the width of a head.
  void expect_head_dim(const std::string& name, int64_t head_dim);
  /// Scores must be multiplied by 1 / sqrt(dim), where the file says a scale.
  void expect_attention_scale(int64_t dim);
  [[noreturn]] void unsupported(const std::string& name, const std::string& what) const;
  void refuse_unread() const;

 private:
  std::string key(const std::string& name) const { return architecture_ + "." + name; }
  bool changes_nothing(const std::string& name) const;

  std::shared_ptr<const GgufFile> file_;
  std::string architecture_;
  std::set<std::string> read_, ignored_;
};

class GgufKeyWriter {
 public:
  GgufKeyWriter(GgufWriter& out, const FamilyNames& names) : out_(out), names_(names) {}
  void integer(const std::string& name, int64_t value);
  void number(const std::string& name, double value);
  void text(const std::string& name, const std::string& value);
  /// An f32 tensor beside the parameters.
  void tensor(const std::string& name, const std::vector<float>& values);
  /// UserError where the model has what a GGUF file has no word for.
  void refuse(bool given, const std::string& what) const;

 private:
  std::string key(const std::string& name) const;
  GgufWriter& out_;
  const FamilyNames& names_;
};

}  // namespace reverie
