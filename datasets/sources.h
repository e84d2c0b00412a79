#pragma once
/// Where texts and tokenizer files lie on this machine. Nothing here downloads: scripts/fetch.py
/// does.

#include <string>

namespace reverie {

struct SourceText {
  std::string name;  ///< "tinyshakespeare", "shakespeare-globe", or the caller's
  std::string file;
  std::string hash;  ///< XXH3-128 of its bytes
  std::string
      note;  ///< what tables must say of it, such as "not the paper's text: ..."; may be empty
};

/// ${XDG_CACHE_HOME:-~/.cache}/reverie, as scripts/fetch.py has it.
std::string cache_directory();

/// The text `name`: $REVERIE_DATA/<name>/input.txt, then <cache>/<name>/input.txt; for
/// "tinyshakespeare" then the rebuilt text that stands in for it,
/// <cache>/shakespeare-globe/input.txt, under that name. Known texts are pinned: DataError when
/// their bytes differ. UserError when there is none: where was looked and what to run.
SourceText find_source_text(const std::string& name);
/// The text in `file`, under the name of the known text that it is, or else `name`, or else the
/// file's own.
SourceText describe_source_text(const std::string& file, const std::string& name);

/// The file of the examples `form` ("prosqa": prosqa_valid.json, "gsm8k": train.jsonl), under that
/// name: `given` if not empty, else in $REVERIE_DATA/<form>, then <cache>/<form>. UserError when
/// there is none: where was looked, the public address, and what to run.
SourceText find_examples(const std::string& form, const std::string& given = "");

/// The folder that holds GPT-2's encoder.json and vocab.bpe: `given` if not empty, else
/// $REVERIE_DATA/gpt2-bpe, else <cache>/gpt2-bpe. UserError when there is none.
std::string find_gpt2_files(const std::string& given);

}  // namespace reverie
