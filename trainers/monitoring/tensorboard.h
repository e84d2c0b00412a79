#pragma once
/// TensorBoard event files, written by hand: TFRecord frames with masked CRC32C around protobuf
/// messages (tensorflow/core/util/event.proto, framework/summary.proto, and TensorBoard's
/// plugins/hparams/plugin_data.proto and plugins/custom_scalar/layout.proto), so that no TensorFlow
/// is needed.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"

namespace reverie {

class TensorBoardWriter {
 public:
  /// Makes `directory` where needed and starts a new event file in it. Where older event files lie
  /// there, TensorBoard is told to forget what they say about steps after `resume_step` (not set:
  /// 0). MachineError when the directory or disk refuses.
  explicit TensorBoardWriter(const std::string& directory,
                             std::optional<int64_t> resume_step = std::nullopt);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  void scalar(std::string_view tag, double value, int64_t step);
  /// Shown as it is (TensorBoard takes text for Markdown, hence it is written as a code block).
  /// Bytes that are not UTF-8 become U+FFFD.
  void text(std::string_view tag, std::string_view text, int64_t step);
  /// The HPARAMS tab: the values of a config at its paths (nested objects and arrays become
  /// "a.b.0"), under the run's name.
  void hparams(const Json& config, std::string_view run_name);
  void end_of_session();  ///< the run has finished
  /// The CUSTOM SCALARS tab: several tags in one chart each.
  struct Chart {
    std::string title;
    std::vector<std::string> tags;
  };
  void layout(const std::vector<Chart>& charts);
  const std::string& file() const { return file_; }

 private:
  void write_event(int64_t step, int field, std::string_view message);
  void write_plugin_data(std::string_view tag, std::string_view plugin, std::string_view content);

  std::string file_;
  int descriptor_ = -1;
};

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4).
uint32_t crc32c(std::string_view bytes);
/// TFRecord's mask: a checksum of data that holds checksums would be weak.
uint32_t masked_crc32c(std::string_view bytes);
/// length u64, masked CRC of length, data, masked CRC of data; little-endian.
std::string tfrecord_frame(std::string_view data);

}  // namespace reverie
