#include "trainers/serving/completion.h"

#include <utility>

namespace reverie {

void Completion::add(Piece piece) {
  const std::lock_guard lock(mutex_);
  if (!piece.finish.empty()) --unfinished_;
  pieces_.push_back(std::move(piece));
  more_.notify_all();
}

void Completion::fail(int status, const std::string& message) {
  const std::lock_guard lock(mutex_);
  if (!refusal_ && unfinished_ > 0) refusal_ = {status, message};
  more_.notify_all();
}

bool Completion::over() const {
  const std::lock_guard lock(mutex_);
  return abandoned_ || refusal_ || unfinished_ == 0;
}

std::vector<Piece> Completion::next() {
  std::unique_lock lock(mutex_);
  more_.wait(lock, [&] { return !pieces_.empty() || refusal_ || unfinished_ == 0; });
  return std::exchange(pieces_, {});
}

std::optional<Refusal> Completion::refusal() const {
  const std::lock_guard lock(mutex_);
  return refusal_;
}

}  // namespace reverie
