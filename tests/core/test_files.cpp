// Files that are whole or absent, also when the disk is full.

#include "core/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "core/error.h"
#include "core/fixtures.h"
#include "core/tensor.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// No file may grow beyond `bytes`: what a full disk does to write(), without needing a disk or
// root.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("setrlimit");
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(Files, ReadsBackWhatWasWritten) {
  const TemporaryDirectory directory;
  const std::string file = directory / "a.bin";
  std::string all(100000, '\0');
  for (size_t i = 0; i < all.size(); ++i) all[i] = char(i * 7);
  for (const std::string& bytes : {std::string(), std::string("x"), all}) {
    write_file_atomically(file, bytes);
    EXPECT_EQ(read_file(file), bytes);
    EXPECT_EQ(directory.entries(), 1u);  // no temporary file stays
  }
}

TEST(Files, ReadingWhatIsNotThereIsTheUsersError) {
  const TemporaryDirectory directory;
  EXPECT_THAT(message_of<UserError>([&] { read_file(directory / "none"); }),
              AllOf(HasSubstr("none"), HasSubstr("No such file")));
  EXPECT_THAT(message_of<UserError>([&] { read_file(directory.path()); }), HasSubstr("directory"));
  EXPECT_THROW(map_file(directory / "none"), UserError);
  EXPECT_THAT(message_of<UserError>([&] { map_file(directory.path()); }),
              HasSubstr("not a regular file"));
  EXPECT_THROW(hash_file(directory / "none"), UserError);
}

TEST(Files, ReadsAPipeToItsEnd) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string text(40000, 'q');
  ASSERT_EQ(::write(ends[1], text.data(), text.size()), ssize_t(text.size()));
  ::close(ends[1]);
  EXPECT_EQ(read_file(fmt::format("/dev/fd/{}", ends[0])), text);
  ::close(ends[0]);
}

TEST(Files, AFullDiskLeavesTheOldFileAndNoTemporary) {
  const TemporaryDirectory directory;
  const std::string file = directory / "model.bin";
  write_file_atomically(file, "old");
  std::string message;
  {
    const SmallDisk disk(4096);
    message =
        message_of<MachineError>([&] { write_file_atomically(file, std::string(10000, 'n')); });
  }
  EXPECT_THAT(message, AllOf(HasSubstr(file), HasSubstr("File too large")));
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(directory.entries(), 1u);
  {
    const SmallDisk disk(4096);  // what fits is written
    write_file_atomically(file, std::string(4096, 'n'));
  }
  EXPECT_EQ(read_file(file).size(), 4096u);
}

TEST(Files, ADirectoryThatCannotBeWrittenIsTheMachinesError) {
  const TemporaryDirectory directory;
  write_plainly(directory / "plain", "");
  EXPECT_THAT(message_of<MachineError>([&] { write_file_atomically(directory / "plain/x", "y"); }),
              AllOf(HasSubstr("plain/x"), HasSubstr("Not a directory")));
  EXPECT_THAT(message_of<MachineError>([&] { write_file_atomically(directory / "none/x", "y"); }),
              HasSubstr("No such file"));
  // Replacing a directory fails at the last step: the temporary file goes away all the same.
  std::filesystem::create_directory(directory / "folder");
  EXPECT_THAT(message_of<MachineError>([&] { write_file_atomically(directory / "folder", "y"); }),
              HasSubstr("cannot replace"));
  EXPECT_EQ(directory.entries(), 2u);
}

TEST(Files, AReadOnlyDirectoryIsTheMachinesError) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write into read-only directories";
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "ro");
  ::chmod((directory / "ro").c_str(), 0555);
  EXPECT_THAT(message_of<MachineError>([&] { write_file_atomically(directory / "ro/x", "y"); }),
              HasSubstr("Permission denied"));
  ::chmod((directory / "ro").c_str(), 0755);
}

TEST(Files, AnUncommittedFileLeavesNothing) {
  const TemporaryDirectory directory;
  {
    AtomicFile file(directory / "a");
    file.write("abc", 3);
    EXPECT_EQ(directory.entries(), 1u);
  }
  EXPECT_EQ(directory.entries(), 0u);
  AtomicFile first(directory / "a"),
      second(directory / "a");  // two writers: the later commit stays
  first.write("one", 3);
  second.write("two", 3);
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(directory / "a"), "one");
  EXPECT_EQ(directory.entries(), 1u);
}

TEST(Files, AnAtomicFileCanRewriteItsHead) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "a");
  file.write("0000abc", 7);
  file.overwrite(0, "12", 2);
  file.write("def", 3);
  file.commit();
  EXPECT_EQ(read_file(directory / "a"), "1200abcdef");
}

TEST(Files, RenamesDirectoriesAndSyncs) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "step.tmp");
  write_plainly(directory / "step.tmp/x", "1");
  rename_durably(directory / "step.tmp", directory / "step");
  EXPECT_EQ(read_file(directory / "step/x"), "1");
  fsync_path(directory / "step");
  fsync_path(directory / "step/x");
  EXPECT_THROW(fsync_path(directory / "none"), MachineError);
  EXPECT_THROW(rename_durably(directory / "none", directory / "a"), MachineError);
}

TEST(FileLock, OneHolderAtATimeAndNothingIsLeft) {
  const TemporaryDirectory directory;
  const std::string file = directory / "lock";
  {
    const FileLock first(file, "the kitchen");
    EXPECT_THAT(message_of<UserError>([&] { FileLock(file, "the kitchen"); }),
                AllOf(HasSubstr("the kitchen is in use by process"),
                      HasSubstr(std::to_string(::getpid()))));
    EXPECT_TRUE(std::filesystem::exists(file));
  }
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_NO_THROW(FileLock(file, "the kitchen"));
  EXPECT_THROW(FileLock(directory / "none/lock", "the kitchen"), MachineError);
}

TEST(FileLock, EndsWithAProcessThatIsKilled) {
  const TemporaryDirectory directory;
  const std::string file = directory / "lock";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock held(file, "the kitchen");
    (void)!::write(ready[1], "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(message_of<UserError>([&] { FileLock(file, "the kitchen"); }),
              HasSubstr(std::to_string(child)));
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(std::filesystem::exists(file));  // its file is still there, and holds nobody up
  EXPECT_NO_THROW(FileLock(file, "the kitchen"));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(Files, MapsAFileForAsLongAsATensorNeedsIt) {
  const TemporaryDirectory directory;
  const int32_t values[] = {1, -2, 3};
  write_plainly(directory / "a", {reinterpret_cast<const char*>(values), sizeof values});
  Tensor tensor = Tensor::over(map_file(directory / "a"), {3}, DType::i32);
  std::filesystem::remove(directory / "a");
  EXPECT_EQ(tensor.to_vector(), (std::vector<double>{1, -2, 3}));

  write_plainly(directory / "empty", "");
  const auto empty = map_file(directory / "empty");
  EXPECT_EQ(empty->bytes(), 0u);
  EXPECT_TRUE(Tensor::over(empty, {0}, DType::f32).to_vector().empty());
}

TEST(Files, MapsZerosWithoutAFileOrMemory) {
  const size_t before = allocator({}).stats().in_use;
  const auto zeros = map_zeros(size_t(1) << 36);
  EXPECT_EQ(zeros->bytes(), size_t(1) << 36);
  EXPECT_EQ(allocator({}).stats().in_use, before);
  EXPECT_EQ(Tensor::over(zeros, {2}, DType::f32, int64_t(1) << 30).to_vector(),
            (std::vector<double>{0, 0}));
  EXPECT_EQ(map_zeros(0)->bytes(), 0u);
}

TEST(Files, HashesAreXxh3) {
  // The published XXH3-128 of nothing, with seed 0.
  EXPECT_EQ(hash_bytes(nullptr, 0), "99aa06d3014798d86001c324468d497f");
  const TemporaryDirectory directory;
  std::string bytes(3 << 20, 'a');  // more than one read
  bytes[12345] = 'b';
  write_plainly(directory / "a", bytes);
  EXPECT_EQ(hash_file(directory / "a"), hash_bytes(bytes.data(), bytes.size()));
  bytes[2 << 20] ^= 1;
  EXPECT_NE(hash_file(directory / "a"), hash_bytes(bytes.data(), bytes.size()));
}

// A device, a pipe or a link is what its owner made it: it is written into, or through.
TEST(Files, WhatIsNoPlainFileIsWrittenThrough) {
  const TemporaryDirectory directory;
  write_plainly(directory / "real", "old");
  std::filesystem::create_symlink("real", directory / "link");
  std::filesystem::create_symlink("none yet", directory / "dangling");
  write_file_atomically(directory / "link", "new");
  write_file_atomically(directory / "dangling", "first");
  EXPECT_TRUE(std::filesystem::is_symlink(directory / "link"));
  EXPECT_EQ(read_file(directory / "real"), "new");
  EXPECT_EQ(read_file(directory / "none yet"), "first");

  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  const int reader = ::open((directory / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
  write_file_atomically(directory / "pipe", "through");
  char got[8] = {};
  EXPECT_EQ(::read(reader, got, 7), 7);
  EXPECT_STREQ(got, "through");
  ::close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(directory / "pipe"));

  write_file_atomically("/dev/null", "nowhere");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_THAT(message_of<MachineError>([] { write_file_atomically("/dev/full", "x"); }),
              HasSubstr("No space left"));
  EXPECT_EQ(directory.entries(), 5u);
}

TEST(Files, WhetherOutputCanBeWrittenIsKnownBeforeTheWork) {
  const TemporaryDirectory directory;
  write_plainly(directory / "plain", "");
  std::filesystem::create_directory(directory / "folder");
  for (const char* fine : {"new", "plain"}) EXPECT_NO_THROW(require_writable(directory / fine));
  EXPECT_NO_THROW(require_writable("/dev/null"));
  for (const char* bad : {"folder", "none/x", "plain/x"})
    EXPECT_THAT(message_of<MachineError>([&] { require_writable(directory / bad); }),
                HasSubstr(bad));
  EXPECT_EQ(directory.entries(), 2u);
}

TEST(Files, WhatKilledWritersLeftIsRemovedByTheNext) {
  const TemporaryDirectory directory;
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(directory / "a");
    const TemporaryFolder folder(directory / "data", "preparing");
    file.write("half", 4);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(directory.entries(), 2u);
  write_plainly(directory / "a.tmp-notes", "somebody's own");
  {
    AtomicFile living(directory / "a");
    const TemporaryFolder alive(directory / "data", "preparing");
    write_file_atomically(directory / "a", "whole");
    remove_orphans(directory / "data", "preparing");
    EXPECT_EQ(directory.entries(), 4u);  // a, the notes, and what living writers hold
  }
  EXPECT_EQ(directory.entries(), 2u);
  EXPECT_EQ(read_file(directory / "a"), "whole");
}

// Every name that the file system takes can be written, and what killed writers left beside it goes.
TEST(Files, NamesAsLongAsTheyMayBe) {
  for (const size_t length : {229u, 230u, 240u, 254u, 255u}) {
    SCOPED_TRACE(length);
    const TemporaryDirectory directory;
    const std::string name(length, 'n'), other = std::string(length - 1, 'n') + "o";
    EXPECT_NO_THROW(require_writable(directory / name));
    const pid_t child = ::fork();
    if (child == 0) {
      AtomicFile file(directory / name);
      const TemporaryFolder folder(directory / ("f" + name.substr(1)), "preparing");
      file.write("half", 4);
      ::kill(::getpid(), SIGKILL);
    }
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(directory.entries(), 2u);
    AtomicFile living(directory / other);  // of another file, whose name begins alike
    write_file_atomically(directory / name, "whole");
    EXPECT_EQ(read_file(directory / name), "whole");
    EXPECT_EQ(directory.entries(), 3u) << "the folder, the living writer's file and the result";
    { const TemporaryFolder folder(directory / ("f" + name.substr(1)), "preparing"); }
    living.write("other", 5);
    living.commit();
    EXPECT_EQ(read_file(directory / other), "other");
    EXPECT_EQ(directory.entries(), 2u);
  }
}

TEST(Files, ALongTemporaryNameHoldsWholeCharacters) {
  for (const size_t first : {0u, 1u, 2u}) {
    std::string name(first, 'x');
    while (name.size() + 3 <= 255) name += "\xE2\x82\xAC";
    const TemporaryDirectory directory;
    const AtomicFile writing(directory / name);
    const auto temporary =
        std::filesystem::directory_iterator(directory.path())->path().filename().string();
    EXPECT_EQ((temporary.find('~') - first) % 3, 0u) << temporary;
    EXPECT_LE(temporary.size(), 255u);
  }
}

TEST(Files, ANameThatIsTooLongIsRefusedBeforeTheWork) {
  const TemporaryDirectory directory;
  EXPECT_THAT(
      message_of<MachineError>([&] { require_writable(directory / std::string(256, 'n')); }),
      HasSubstr("too long"));
}

TEST(Files, ALockKnowsThatItsDirectoryWasMovedOrRemoved) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "run");
  const FileLock lock(directory / "run/lock", "the run");
  EXPECT_TRUE(lock.in_place());
  std::filesystem::rename(directory / "run", directory / "moved");
  EXPECT_FALSE(lock.in_place());
  EXPECT_EQ(lock.current_file(), directory / "moved/lock");
  std::filesystem::remove_all(directory / "moved");
  EXPECT_EQ(lock.current_file(), "");
}

TEST(Files, AnOpenFileThatGetsShorterIsAnErrorAndNoSignal) {
  const TemporaryDirectory directory;
  write_plainly(directory / "a", std::string(10000, 'x'));
  const OpenFile file(directory / "a");
  char last[4];
  file.read(9996, last, 4);
  EXPECT_EQ(last[3], 'x');
  EXPECT_TRUE(file.unchanged());
  std::filesystem::resize_file(directory / "a", 4096);
  EXPECT_FALSE(file.unchanged());
  EXPECT_THAT(message_of<DataError>([&] { file.read(9996, last, 4); }), HasSubstr("cut short"));
  EXPECT_THROW(OpenFile(directory.path()), UserError);
}

}  // namespace
}  // namespace reverie
