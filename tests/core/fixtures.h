#pragma once
// What the tests of core share: a directory that goes away, errors caught as text, and files of any
// bytes.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "support/message_of.h"
#include "support/temporary_directory.h"

namespace reverie {

using testing::message_of;
using testing::TemporaryDirectory;

// Removes the file first: truncating one that exists makes some file systems wait for the disk.
inline void write_plainly(const std::string& file, std::string_view bytes) {
  std::filesystem::remove(file);
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace reverie
