#pragma once
/// The verdict of a run in the files of its exported model, where other programs pass it over:
/// "reverie" in a Hugging Face config.json, reverie.* in the metadata of a GGUF file.

#include <string>

#include "core/gguf_writer.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// Puts {"verdict", "label"} under "reverie"; the label where there is one.
void put_verdict(Json& hugging_face_config, const Verdict& verdict);
/// Adds reverie.verdict (JSON) and reverie.label.
void put_verdict(GgufWriter& out, const Verdict& verdict);

/// The verdict in such a directory or file; nothing is known where others wrote it, or it cannot be
/// read. DataError where it holds a verdict that is damaged.
Verdict verdict_of_export(const std::string& path);

}  // namespace reverie
