#include "trainers/exporting/gguf.h"

#include "core/error.h"
#include "datasets/tokenizers/formats/gguf_tokenizer_writer.h"
#include "layers/pretrained/gguf_model_writer.h"
#include "trainers/runs/exported_verdict.h"

namespace reverie {
namespace {

// llama.cpp's number for a file whose matrices are mostly of this type.
uint32_t file_type(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::f32:
      return 0;
    case GgufTensorType::f16:
      return 1;
    case GgufTensorType::q8_0:
      return 7;
    case GgufTensorType::bf16:
      return 32;
  }
  throw InternalError("a GGUF type that is not written");
}

}  // namespace

GgufWriter::Saved export_gguf(const LanguageModel& model, const Component& component,
                              const Tokenizer* tokenizer, GgufTensorType type,
                              const std::string& file, const Verdict* verdict) {
  const PlainModel plain = plain_model(model, component);
  GgufWriter out;
  write_gguf_model(out, plain, type);
  out.text("general.type", "model");
  out.integer("general.file_type", file_type(type));
  out.integer("general.quantization_version", 2);
  if (verdict) put_verdict(out, *verdict);
  if (tokenizer)
    write_gguf_tokenizer(out, *tokenizer, model.vocabulary_size());
  else
    write_no_gguf_tokenizer(out);
  return out.save(file);
}

}  // namespace reverie
