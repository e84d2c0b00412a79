#pragma once
/// Files that a command is asked to write, beside those that it reads.

#include <string>
#include <vector>

namespace reverie {

/// A file or directory as an option names it; an empty path was not given.
struct GivenPath {
  std::string option;  ///< "--json"
  std::string path;
};

/// Before any work: every output can be written (require_writable()), and none of them is an input,
/// another output, or a file that a run keeps in its directory or a checkpoint. UserError, with the
/// option's name, where it is; nothing is written.
void require_outputs(const std::vector<GivenPath>& outputs, const std::vector<GivenPath>& inputs);

}  // namespace reverie
