#include "datasets/mixed_dataset.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace reverie {

namespace {

constexpr double kLeastShare = 1e-6;

std::string entry_in_words(const DatasetDescription& d, size_t i) {
  return fmt::format("$.data.mix[{}] ({})", i, d.options.mix[i].path);
}

std::vector<double> shares_of(const DatasetDescription& d) {
  double all = 0;
  for (const MixEntry& entry : d.options.mix) all += entry.weight;
  std::vector<double> shares;
  for (size_t i = 0; i < d.options.mix.size(); ++i) {
    shares.push_back(d.options.mix[i].weight / all);
    require(
        shares.back() >= kLeastShare,
        "{}: its weight {} is {:.3g} of all weights, {}: wanted at least {}, or leave the entry "
        "out",
        entry_in_words(d, i), d.options.mix[i].weight, shares.back(), all, kLeastShare);
  }
  return shares;
}

// Where a tokenizer is unknown, its vocabulary is all that can be compared.
void require_tokenizer_of_first(const DatasetDescription& d, const std::vector<Dataset>& texts) {
  const auto described = [](const Dataset& data) {
    return fmt::format(
        "{}, vocabulary {}",
        data.tokenizer ? fmt::format("{} (hash {})", data.tokenizer->name(), data.tokenizer->hash())
                       : "an unknown tokenizer",
        data.vocabulary_size());
  };
  for (size_t i = 1; i < texts.size(); ++i) {
    const Dataset &first = texts[0], &other = texts[i];
    const bool known = first.tokenizer && other.tokenizer;
    require(
        first.vocabulary_size() == other.vocabulary_size() &&
            (!known || first.tokenizer->hash() == other.tokenizer->hash()),
        "{} has the tokenizer {}, and {} has {}: wanted one for all. Prepare the others by the "
        "first's: `reverie prepare TEXT --tokenizer pretrained --tokenizer-files DIRECTORY`, with "
        "the directory of its token files",
        entry_in_words(d, 0), described(first), entry_in_words(d, i), described(other));
  }
  for (size_t i = 0; i < texts.size(); ++i)
    if (!texts[i].tokenizer && texts.size() > 1)
      log_warning("{} does not say its tokenizer: its tokens are taken for those of the others",
                  entry_in_words(d, i));
}

void require_plain_text(const DatasetDescription& d, size_t i, const Dataset& data) {
  require(!data.examples && !data.task,
          "{} holds {}: wanted a text, whose rows are windows of block_size; train on it alone",
          entry_in_words(d, i), data.task ? "a generated task" : "examples");
}

std::string hash_of_mix(const std::vector<Dataset>& texts, const std::vector<double>& shares) {
  std::string all = "mix\n";
  for (size_t i = 0; i < texts.size(); ++i)
    all += fmt::format("{} {:.12g}\n", texts[i].hash, shares[i]);
  return hash_bytes(all.data(), all.size());
}

// The shards of an entry, of which the first begins at token `first` of the mix.
MixLayout::Entry entry_at(int64_t first, const std::string& name, double share,
                          const TokenFile& tokens, const std::optional<MixLayout>& shards) {
  MixLayout::Entry entry{name, share, {{first, tokens.count()}}};
  if (!shards) return entry;
  entry.shards = shards->entries.front().shards;
  for (MixLayout::Shard& shard : entry.shards) shard.first += first;
  return entry;
}

// Its token files are joined by the caller.
Json provenance_of_mix(const Dataset& all, const std::vector<Dataset>& texts) {
  std::string names, notes;
  Json mix = Json::array();
  for (size_t i = 0; i < texts.size(); ++i) {
    const MixLayout::Entry& entry = all.train_mix->entries[i];
    names += (i == 0 ? "" : "+") + entry.name;
    if (const std::string note = texts[i].note(); !note.empty())
      notes += (notes.empty() ? "" : "; ") + entry.name + ": " + note;
    mix.push_back({{"name", entry.name},
                   {"share", entry.share},
                   {"hash", texts[i].hash},
                   {"train", texts[i].provenance.at("train")},
                   {"validation", texts[i].provenance.at("validation")}});
  }
  Json tokenizer = {{"name", all.tokenizer ? Json(all.tokenizer->name()) : Json()},
                    {"vocabulary_size", all.vocabulary_size()}};
  if (all.tokenizer) tokenizer["hash"] = all.tokenizer->hash();
  return {{"format", "reverie dataset 1"},
          {"source", {{"name", names}, {"note", notes}, {"hash", all.hash}}},
          {"tokenizer", std::move(tokenizer)},
          {"mix", std::move(mix)},
          {"train", {{"tokens", all.train.count()}, {"checksum", all.train.checksum()}}},
          {"validation",
           {{"tokens", all.validation.count()},
            {"checksum", all.validation.checksum()},
            {"windows", "as many of each text as its share"}}}};
}

}  // namespace

MixLayout layout_of_shards(const std::string& name, const std::vector<TokenFile>& files) {
  MixLayout::Entry entry{name, 1, {}};
  int64_t first = 0;
  for (const TokenFile& file : files) {
    entry.shards.push_back({first, file.count()});
    first += file.count();
  }
  return {{std::move(entry)}};
}

Dataset open_mix(const DatasetDescription& d) {
  const std::vector<double> shares = shares_of(d);
  std::vector<Dataset> texts;
  for (size_t i = 0; i < d.mix.size(); ++i) {
    texts.push_back(open_dataset(d.mix[i]));
    require_plain_text(d, i, texts.back());
  }
  require_tokenizer_of_first(d, texts);
  Dataset all;
  all.train_mix.emplace();
  all.validation_mix.emplace();
  std::vector<TokenFile> train, validation;
  int64_t train_tokens = 0, validation_tokens = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const Dataset& text = texts[i];
    const std::string given = d.options.mix[i].name, name = given.empty() ? text.name() : given;
    all.train_mix->entries.push_back(
        entry_at(train_tokens, name, shares[i], text.train, text.train_mix));
    all.validation_mix->entries.push_back(
        entry_at(validation_tokens, name, shares[i], text.validation, text.validation_mix));
    train_tokens += text.train.count();
    validation_tokens += text.validation.count();
    train.push_back(text.train);
    validation.push_back(text.validation);
    if (!all.tokenizer) all.tokenizer = text.tokenizer;
  }
  all.train = TokenFile::joined(train);
  all.validation = TokenFile::joined(validation);
  all.hash = hash_of_mix(texts, shares);
  all.provenance = provenance_of_mix(all, texts);
  if (!d.options.name.empty()) all.provenance["source"]["name"] = d.options.name;
  return all;
}

void require_alone(const DataOptions& options) {
  DataOptions given = options, bare;
  given.mix.clear();
  bare.name = options.name;
  const auto differences = config_differences(write_config(bare), write_config(given));
  require(differences.empty(),
          "$.data.mix is given, whose entries say themselves what they are, and beside it stands "
          "$.data{}: leave that out, or put it into the entries",
          differences.empty() ? "" : differences.front().substr(1));
}

}  // namespace reverie
