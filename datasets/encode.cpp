#include "datasets/encode.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <vector>

#include "core/parallel.h"

namespace reverie {
namespace {

constexpr size_t kPieceBytes = size_t(1) << 20;

size_t bytes_of(std::string_view piece) {
  return piece.size();
}
size_t bytes_of(std::span<const std::string_view> documents) {
  size_t bytes = 0;
  for (const std::string_view document : documents) bytes += document.size();
  return bytes;
}

// Encodes pieces in parallel, `next` giving one after another (nullopt: no more), and appends their
// tokens in order.
template <class Piece, class Next, class Encode>
void encode_pieces(TokenFileWriter& writer, Next next, Encode encode,
                   const std::function<void(size_t)>& encoded_bytes) {
  const size_t pieces_at_once = size_t(omp_get_max_threads()) * 2;
  for (bool more = true; more;) {
    std::vector<Piece> pieces;
    while (more && pieces.size() < pieces_at_once) {
      std::optional<Piece> piece = next();
      more = piece.has_value();
      if (more) pieces.push_back(std::move(*piece));
    }
    std::vector<std::vector<int32_t>> tokens(pieces.size());
    std::vector<std::exception_ptr> errors(pieces.size());  // none may leave the parallel loop
    share_out(int64_t(pieces.size()), true, [&](int64_t i) {
      try {
        tokens[size_t(i)] = encode(pieces[size_t(i)]);
      } catch (...) {
        errors[size_t(i)] = std::current_exception();
      }
    });
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (errors[i]) std::rethrow_exception(errors[i]);
      writer.append(tokens[i]);
      encoded_bytes(bytes_of(pieces[i]));
    }
  }
}

}  // namespace

void encode_into(TokenFileWriter& writer, const Tokenizer& tokenizer, std::string_view text,
                 SpecialTokens special, const std::function<void(size_t)>& encoded_bytes) {
  size_t at = 0;
  const auto next = [&]() -> std::optional<std::string_view> {
    if (at >= text.size()) return std::nullopt;
    const size_t begin = at;
    at = tokenizer.cut_after(text, std::min(at + kPieceBytes, text.size()));
    return text.substr(begin, at - begin);
  };
  encode_pieces<std::string_view>(
      writer, next, [&](std::string_view piece) { return tokenizer.encode(piece, special); },
      encoded_bytes);
}

void encode_documents_into(TokenFileWriter& writer, const Tokenizer& tokenizer,
                           std::span<const std::string_view> documents, const DocumentMark& mark,
                           SpecialTokens special,
                           const std::function<void(size_t)>& encoded_bytes) {
  using Documents = std::span<const std::string_view>;
  size_t at = 0;
  const auto next = [&]() -> std::optional<Documents> {
    if (at >= documents.size()) return std::nullopt;
    const size_t begin = at;
    for (size_t bytes = 0; at < documents.size() && bytes < kPieceBytes; ++at)
      bytes += documents[at].size();
    return documents.subspan(begin, at - begin);
  };
  const auto encode = [&](Documents piece) {
    std::vector<int32_t> tokens;
    for (const std::string_view document : piece) {
      if (mark.begins) tokens.push_back(mark.token);
      const auto own = tokenizer.encode(document, special);
      tokens.insert(tokens.end(), own.begin(), own.end());
      if (!mark.begins) tokens.push_back(mark.token);
    }
    return tokens;
  };
  encode_pieces<Documents>(writer, next, encode, encoded_bytes);
}

}  // namespace reverie
