// The vocabulary, block size and memory of a model's config, by its options.

#include "layers/model_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "layers/families/family.h"
#include "layers/memory/memory_module.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::model_component;

// A plug-in's model, which has a vocabulary and nothing else that others ask for.
struct BareOptions final : Fieldset {
  int64_t vocab_size = 0, memory = 3;
  void fields(Fields& f) override {
    f.integer("vocab_size", vocab_size, kNonNegative, "0: the data's");
    f.integer("memory", memory, kPositive, "no module, but a number");
  }
};
class BareModel final : public LanguageModel {
 public:
  BareModel(const BareOptions& o, const Build&) : vocabulary_(o.vocab_size) {}
  int64_t vocabulary_size() const override { return vocabulary_; }
  int64_t block_size() const override { return 8; }
  Variable hidden(const Tensor&, SequenceState*) override { return {}; }
  const Variable& head() const override { return head_; }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return false; }
  double forward_flops_per_token(int64_t) const override { return 0; }

 private:
  int64_t vocabulary_;
  Variable head_;
};
const bool bare_registered =
    ModelRegistry::instance().add<BareModel, BareOptions>("test_bare", "for this test");

TEST(ModelOptions, AreThoseOfTheConfigInEveryFamily) {
  for (const Family* family : families()) {
    SCOPED_TRACE(family->names().type);
    const std::string type = R"({"type": ")" + family->names().type + "\"";
    const Component plain = model_component(type + R"(, "block_size": 24})");
    EXPECT_EQ(configured_vocabulary(plain), 0);
    EXPECT_EQ(configured_block_size(plain), 24);
    EXPECT_FALSE(configured_memory(plain).given());
    EXPECT_FALSE(configured_rematerialize(plain));
    EXPECT_TRUE(configured_rematerialize(model_component(type + R"(, "rematerialize": true})")));
    EXPECT_TRUE(takes_vocabulary_of_data(plain));
    const Component memory =
        model_component(type + R"(, "vocab_size": 7, "memory": {"type": "imm"}})");
    EXPECT_EQ(configured_vocabulary(memory), 7);
    EXPECT_EQ(configured_memory(memory).type, "imm");
    EXPECT_FALSE(takes_vocabulary_of_data(memory));
  }
}

TEST(ModelOptions, AModelHasNoneOfThoseItLeavesOut) {
  ASSERT_TRUE(bare_registered);
  const Component bare = model_component(R"({"type": "test_bare"})");
  EXPECT_TRUE(takes_vocabulary_of_data(bare));
  EXPECT_EQ(configured_block_size(bare), std::nullopt);
  EXPECT_FALSE(configured_rematerialize(bare));
  EXPECT_FALSE(configured_memory(bare).given()) << "a field of another kind is no memory module";
  EXPECT_THROW(with_memory(bare, Component()), InternalError);
  Generator random(1);
  EXPECT_EQ(ModelRegistry::instance()
                .make(with_vocabulary_of_data(bare, 11), Build{random})
                ->vocabulary_size(),
            11);
  EXPECT_EQ(configured_vocabulary(with_vocabulary_without_data(bare)), 65);

  const Component published = model_component(R"({"type": "pretrained", "path": "x"})");
  EXPECT_EQ(configured_vocabulary(published), std::nullopt);
  EXPECT_EQ(configured_block_size(published), std::nullopt) << "auto: the files say it";
  EXPECT_FALSE(takes_vocabulary_of_data(published));
  EXPECT_EQ(configured_block_size(
                model_component(R"({"type": "pretrained", "path": "x", "block_size": 9})")),
            9);
  EXPECT_EQ(configured_block_size(model_component(
                R"({"type": "augmented", "base": "x", "block_size": 40,
                    "latents": {"type": "soft_embeddings"}})")),
            40);
}

TEST(ModelOptions, AChangedModelIsWhatItsChangedConfigSays) {
  const std::string rest = R"("block_size": 24, "memory": {"type": "delta_rule", "heads": 2}})";
  const Component model = model_component(R"({"type": "llama", )" + rest);
  EXPECT_EQ(with_vocabulary_of_data(model, 33).resolved->dump(),
            model_component(R"({"type": "llama", "vocab_size": 33, )" + rest).resolved->dump());
  const Component chosen = model_component(R"({"type": "llama", "vocab_size": 5, )" + rest);
  EXPECT_EQ(with_vocabulary_of_data(chosen, 33).resolved, chosen.resolved);

  const Component other = resolve_component(MemoryRegistry::instance(),
                                            Config(parse_json(R"({"type": "imm"})"), "$.memory"));
  EXPECT_EQ(with_memory(model, other).resolved->dump(),
            model_component(R"({"type": "llama", "block_size": 24, "memory": {"type": "imm"}})")
                .resolved->dump());
}

}  // namespace
}  // namespace reverie
