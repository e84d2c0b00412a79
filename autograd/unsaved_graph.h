#pragma once
/// A graph that is looked at and never walked.

namespace reverie {

/// While one is alive on this thread, ops record as they do in a training step, and keep no tensors
/// for a backward pass: memory is given back as a forward goes on. backward() over an op that would
/// have kept some is an InternalError.
class UnsavedGraph {
 public:
  UnsavedGraph();
  ~UnsavedGraph();
  UnsavedGraph(const UnsavedGraph&) = delete;
  UnsavedGraph& operator=(const UnsavedGraph&) = delete;

 private:
  bool before_;
};

}  // namespace reverie
