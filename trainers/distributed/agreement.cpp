#include "trainers/distributed/agreement.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace reverie {

void require_same_on_all_ranks(Communicator& communicator, const Json& mine) {
  if (communicator.size() == 1) return;
  const std::vector<std::string> texts = communicator.all_gather(json_text(mine));
  for (size_t r = 1; r < texts.size(); ++r) {
    if (texts[r] == texts[0]) continue;
    const Json first = parse_json_or_discard(texts[0]), other = parse_json_or_discard(texts[r]);
    if (other.is_discarded() || first.is_discarded())
      throw PeerError(fmt::format("rank {} sent no description of itself", r));
    std::string list;
    for (const auto& d : config_differences(first, other)) list += "\n  " + d;
    communicator.fail_together();
    throw ConfigError(fmt::format(
        "rank {} was started differently than rank 0, so they cannot train one model together; "
        "start both alike (rank 0 -> rank {}):{}",
        r, r, list.empty() ? "\n  the order of keys" : list));
  }
}

void require_same_hash(Communicator& communicator, const std::string& what,
                       const std::string& hash) {
  if (communicator.size() == 1) return;
  const std::vector<std::string> hashes = communicator.all_gather(hash);
  for (size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] == hashes[0]) continue;
    communicator.fail_together();
    throw InternalError(fmt::format("{} are not the same on all ranks: {} on rank 0, {} on rank {}",
                                    what, hashes[0], hashes[r], r));
  }
}

Tensor gather_rows(Communicator& communicator, const Tensor& mine, int64_t rows_of_all) {
  const Tensor own = mine.contiguous();
  const std::vector<std::string> pieces =
      communicator.all_gather(std::string(static_cast<const char*>(own.raw()), own.bytes()));
  Shape shape = own.shape();
  shape[0] = rows_of_all;
  Tensor all = Tensor::empty(shape, own.dtype());
  auto* to = static_cast<char*>(all.mutable_raw());
  size_t at = 0;
  for (const std::string& piece : pieces) {
    require(at + piece.size() <= all.bytes(), "ranks hold more than {} rows of {}", rows_of_all,
            own);
    std::memcpy(to + at, piece.data(), piece.size());
    at += piece.size();
  }
  require(at == all.bytes(), "ranks hold {} bytes of {} rows of {}", at, rows_of_all, own);
  return all;
}

}  // namespace reverie
