#include "datasets/sources.h"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace reverie {

namespace fs = std::filesystem;

namespace {

struct KnownText {
  std::string_view name, hash, note;
};
// The same bytes as scripts/fetch.py pins by SHA-256.
constexpr KnownText kTinyShakespeare = {"tinyshakespeare", "ae717de95b0441526572a3fb9fde75d3",
                                        "char-rnn's input.txt, the paper's text"};
constexpr KnownText kShakespeareGlobe = {"shakespeare-globe", "3dfb2168c9012edcbacfd50b050b39d8",
                                         "not the paper's text: the same nine plays in another "
                                         "edition's words, rebuilt in char-rnn's layout"};
constexpr std::array kKnownTexts = {kTinyShakespeare, kShakespeareGlobe};

struct KnownExamples {
  std::string_view form, file, address;
};
// The addresses of scripts/fetch.py.
constexpr KnownExamples kGsm8k = {
    "gsm8k", "train.jsonl",
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/train.jsonl"};
constexpr KnownExamples kProsqa = {
    "prosqa", "prosqa_valid.json",
    "https://raw.githubusercontent.com/facebookresearch/coconut/"
    "27273cb8cca4bb763c041a63b036d0c3b7cbbb48/data/prosqa_valid.json"};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string data_directory() {
  return environment("REVERIE_DATA");
}

std::string listed(const std::vector<std::string>& places) {
  std::string text;
  for (const std::string& place : places) text += "\n  " + place;
  return text;
}

// The text at `file`, which must be the known text of that name if there is one.
SourceText pinned_text(const std::string& name, const std::string& file) {
  SourceText text{name, file, hash_file(file), ""};
  for (const KnownText& known : kKnownTexts) {
    if (known.name != name) continue;
    if (known.hash != text.hash)
      throw DataError(
          fmt::format("{} is not {}: its bytes hash to {}, wanted {}; remove it and run "
                      "scripts/fetch.py shakespeare, or give the "
                      "text by \"path\"",
                      file, name, text.hash, known.hash));
    text.note = known.note;
  }
  return text;
}

}  // namespace

std::string cache_directory() {
  if (const std::string xdg = environment("XDG_CACHE_HOME"); fs::path(xdg).is_absolute())
    return (fs::path(xdg) / "reverie").string();
  return (fs::path(environment("HOME")) / ".cache" / "reverie").string();
}

SourceText find_source_text(const std::string& name) {
  require(!name.empty() && fs::path(name).filename() == name && name != "." && name != "..",
          "'{}' is not the name of a text; a file is given by \"path\"", name);
  std::vector<std::string> looked;
  const auto look = [&](const std::string& folder, std::string_view text) {
    looked.push_back((fs::path(folder) / text / "input.txt").string());
    return fs::is_regular_file(looked.back());
  };
  if (const std::string data = data_directory(); !data.empty() && look(data, name))
    return pinned_text(name, looked.back());
  if (look(cache_directory(), name)) return pinned_text(name, looked.back());
  if (name == kTinyShakespeare.name && look(cache_directory(), kShakespeareGlobe.name))
    return pinned_text(std::string(kShakespeareGlobe.name), looked.back());
  const bool fetchable = name == kTinyShakespeare.name || name == kShakespeareGlobe.name;
  throw UserError(fmt::format(
      "the text '{}' is at none of these places:{}\n{}", name, listed(looked),
      fetchable ? "run scripts/fetch.py shakespeare, or set REVERIE_DATA to a folder that has it"
                : "put it there, or give its file as \"path\""));
}

SourceText describe_source_text(const std::string& file, const std::string& name) {
  SourceText text{name.empty() ? fs::path(file).stem().string() : name, file, hash_file(file), ""};
  for (const KnownText& known : kKnownTexts)
    if (known.hash == text.hash) {
      text.name = known.name;
      text.note = known.note;
    }
  return text;
}

SourceText find_examples(const std::string& form, const std::string& given) {
  const KnownExamples& known = form == kGsm8k.form ? kGsm8k : kProsqa;
  std::vector<std::string> looked;
  if (!given.empty()) {
    looked = {given};
  } else {
    for (const std::string& folder : {data_directory(), cache_directory()})
      if (!folder.empty()) looked.push_back((fs::path(folder) / form / known.file).string());
  }
  for (const std::string& place : looked)
    if (fs::is_regular_file(place)) return describe_source_text(place, form);
  throw UserError(fmt::format(
      "the examples of {} are at none of these places:{}\nthey are published at {}\nrun "
      "scripts/fetch.py {}, set REVERIE_DATA to a folder that has them, or give their "
      "file as \"path\"",
      form, listed(looked), known.address, form));
}

std::string find_gpt2_files(const std::string& given) {
  std::vector<std::string> looked;
  const auto look = [&](const fs::path& folder) {
    looked.push_back(folder.string());
    return fs::is_regular_file(folder / "encoder.json") &&
           fs::is_regular_file(folder / "vocab.bpe");
  };
  if (!given.empty()) {
    if (look(given)) return looked.back();
  } else {
    if (const std::string data = data_directory();
        !data.empty() && look(fs::path(data) / "gpt2-bpe"))
      return looked.back();
    if (look(fs::path(cache_directory()) / "gpt2-bpe")) return looked.back();
  }
  throw UserError(
      fmt::format("GPT-2's encoder.json and vocab.bpe are in none of these folders:{}\nput them "
                  "there, or give their folder as "
                  "\"tokenizer_files\"",
                  listed(looked)));
}

}  // namespace reverie
