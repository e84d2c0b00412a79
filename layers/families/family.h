#pragma once
/// A family of published models: its words in the files of other programs. Readers and writers of
/// those files (layers/pretrained) name no family; they ask the registry. A new family is one file
/// that registers its options, which say its shape, and a Family.

#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "layers/families/gguf_keys.h"
#include "layers/families/hugging_face_config.h"
#include "layers/transformer.h"

namespace reverie {

struct FamilyNames {
  std::string type;                      ///< of our component: "gemma3"
  std::vector<std::string> model_types;  ///< transformers' "model_type"; the first is written
  std::string class_name;                ///< transformers' class: "Gemma3ForCausalLM"
  std::string architecture;              ///< GGUF's "general.architecture"
};

class Family {
 public:
  explicit Family(FamilyNames names) : names_(std::move(names)) {}
  virtual ~Family() = default;
  const FamilyNames& names() const { return names_; }

  /// Options from a config.json; DataError (HuggingFaceConfig::refuse) for what is not built.
  virtual Json from_hugging_face(const HuggingFaceConfig&) const = 0;
  /// The family's keys of a config.json: every one on which a result depends. `options`: all of them,
  /// with defaults. UserError for what transformers' class cannot compute.
  virtual Json to_hugging_face(const Json& options, const TransformerShape&) const = 0;
  /// Why transformers would not read this tokenizer.json as it is: its class for some model_types
  /// brings its own rules, whatever the file says. "" where it would.
  virtual std::string tokenizer_conflict(const Json& /*tokenizer*/) const { return ""; }
  /// Options from GGUF keys, beside the sizes that every model has (GgufKeys::sizes). A key that is
  /// not read is refused. Not called where reads_gguf() is false.
  virtual Json from_gguf(GgufKeys&) const;
  /// GGUF keys beside those sizes. GgufKeyWriter::refuse: what readers of such files decide alone.
  virtual void to_gguf(GgufKeyWriter&, const Json& options, const TransformerShape&) const = 0;

  /// Files of this family have biases; where the model has none, zeros are written.
  virtual bool files_have_biases() const { return false; }
  /// Rotary positions turn neighbouring rows of a query or key head in GGUF files, instead of rows
  /// half a head apart.
  virtual bool gguf_turns_neighbours() const { return false; }
  /// False: its GGUF files are those of another family, which reads them.
  virtual bool reads_gguf() const { return true; }

  /// The shape that such options (component_options()) mean.
  TransformerShape shape(const Fieldset& options) const { return shape_(options); }

 private:
  friend void keep_family(std::unique_ptr<Family>,
                          std::function<TransformerShape(const Fieldset&)>);
  FamilyNames names_;
  std::function<TransformerShape(const Fieldset&)> shape_;
};

/// Ordered by type.
std::vector<const Family*> families();
/// Null where there is none. `model_type` and `architecture` are those of a file to be read.
const Family* family_of_type(const std::string& type);
const Family* family_of_model_type(const std::string& model_type);
const Family* family_of_architecture(const std::string& architecture);
/// "gemma2, gpt2 and llama", for messages: all types, or all model types or architectures that are
/// read.
std::string known_types();
std::string known_model_types();
std::string known_architectures();

/// For register_family().
void keep_family(std::unique_ptr<Family>, std::function<TransformerShape(const Fieldset&)> shape);

/// Registers the model component of the family's type, built from Options, and the family.
/// F is default-constructed; Options is a Fieldset with `TransformerShape shape() const`.
template <class F, class Options>
bool register_family(const std::string& doc,
                     std::source_location where = std::source_location::current()) {
  auto family = std::make_unique<F>();
  if (!ModelRegistry::instance().add<Transformer, Options>(family->names().type, doc, where))
    return false;
  keep_family(std::move(family),
              [](const Fieldset& options) { return options_as<Options>(options).shape(); });
  return true;
}

}  // namespace reverie
