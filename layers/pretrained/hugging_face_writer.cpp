#include "layers/pretrained/hugging_face_writer.h"

#include "core/error.h"
#include "layers/families/family.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

Json id_or_null(const std::optional<int32_t>& id) {
  return id ? Json(*id) : Json();
}
// One id, or a list of several.
Json ids_or_null(const std::vector<int32_t>& ids) {
  return ids.empty() ? Json() : ids.size() == 1 ? Json(ids[0]) : Json(ids);
}

// A norm that multiplies by 1 + w: w.
Tensor minus_one(const Tensor& t) {
  Tensor w = t.to(DType::f64).clone();
  double* x = w.mutable_data<double>();
  for (int64_t i = 0; i < w.numel(); ++i) x[i] -= 1;
  return w.to(DType::f32);
}

}  // namespace

Json hugging_face_config(const PlainModel& plain, const TextEnds& ends) {
  const Family* family = family_of_type(plain.component.type);
  require(family != nullptr, "transformers has no model like \"{}\"; known are {}",
          plain.component.type, known_types());
  const TransformerShape& s = plain.model.shape();
  Json out = {{"model_type", family->names().model_types.at(0)},
              {"architectures", {family->names().class_name}},
              {"vocab_size", s.vocabulary},
              {"bos_token_id", id_or_null(ends.begin)},
              {"eos_token_id", ids_or_null(ends.end)},
              {"pad_token_id", nullptr},
              {"tie_word_embeddings", s.tied},
              {"dtype", "float32"},
              {"torch_dtype", "float32"},
              {"use_cache", true}};
  out.update(family->to_hugging_face(*plain.component.resolved, s));
  return out;
}

Json generation_config(const TextEnds& ends) {
  return {{"bos_token_id", id_or_null(ends.begin)},
          {"eos_token_id", ids_or_null(ends.end)},
          {"pad_token_id", nullptr}};
}

NamedTensors hugging_face_tensors(const PlainModel& plain) {
  const TransformerShape& shape = plain.model.shape();
  const Family* family = family_of_type(plain.component.type);
  NamedTensors weights;
  for (const auto& [name, t] : plain_state(plain)) {
    weights.emplace_back(
        name, shape.norm_stored_minus_one && t.rank() == 1 ? minus_one(t) : t.to(DType::f32));
    if (const std::string bias = family ? missing_bias(*family, shape, name) : ""; !bias.empty())
      weights.emplace_back(bias, Tensor::zeros({t.size(-1)}, DType::f32));
  }
  return weights;
}

}  // namespace reverie
