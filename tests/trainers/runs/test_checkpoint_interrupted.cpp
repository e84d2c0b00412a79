// Checkpoints under a full disk and under kill -9.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <random>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/checkpoint_samples.h"

namespace reverie {
namespace {
using ::testing::ElementsAre;
using testing::expect_same;
using ::testing::HasSubstr;
using testing::hidden_in;
using ::testing::IsEmpty;
using testing::sample_contents;
using testing::TemporaryDirectory;
namespace fs = std::filesystem;

// Runs `body` in a child process; its result is the exit status (200: it threw).
pid_t fork_and_run(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 200;
  try {
    status = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(status);
}

int exit_status_of(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

// The newest checkpoint verifies, and its content is what its own state says it is.
int64_t expect_newest_is_whole(const std::string& run_directory) {
  const auto latest = latest_checkpoint(run_directory);
  if (!latest) return -1;
  const auto all = checkpoints_of(run_directory);
  EXPECT_EQ(*latest, all.back()) << "a kill damaged a checkpoint";
  const CheckpointContents contents = read_checkpoint(*latest);
  const int64_t step = contents.state.at("step"), round = contents.state.at("round");
  expect_same(contents, sample_contents(step, round, contents.model[0].second.numel() / 128));
  EXPECT_THAT(*latest, HasSubstr(fmt::format("step_{:08}", step)));
  return step;
}

// A file-size limit stands for a full disk, at a place that is the same each time.
TEST(CheckpointFullDisk, ALimitOnFileSizesLeavesTheLastCheckpointAndNamesIt) {
  for (const bool same_step : {false, true}) {
    for (const int64_t kilobytes : {300, 1000}) {  // does not fit; neither does the optimizer's
      TemporaryDirectory run;
      const std::string first = write_checkpoint(run.path(), 0, sample_contents(0), 0);
      const std::string last = write_checkpoint(run.path(), 1, sample_contents(1), 0);
      std::string message_file = run / "message";
      const pid_t child = fork_and_run([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        CheckpointContents contents = sample_contents(2, 0, kilobytes);
        if (kilobytes == 1000) contents.model.clear();
        const rlimit limit{100'000, 100'000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        try {
          write_checkpoint(run.path(), same_step ? 1 : 2, contents, 1);
        } catch (const MachineError& error) {
          write_file_atomically(message_file, error.what());
          return 42;
        }
        return 1;
      });
      ASSERT_EQ(exit_status_of(child), 42);
      const std::string message = read_file(message_file);
      EXPECT_THAT(message, HasSubstr("the checkpoint " + last + " is still good"));
      EXPECT_THAT(message,
                  HasSubstr(kilobytes == 300 ? "model.safetensors" : "optimizer.safetensors"));
      // Nothing was removed to make room for one that did not come.
      EXPECT_THAT(checkpoints_of(run.path()), ElementsAre(first, last));
      expect_same(read_checkpoint(last), sample_contents(1));
      EXPECT_THAT(hidden_in(run / "checkpoints"), IsEmpty());
    }
  }
}

// A file system of its own, in a mount namespace that ends with the child: with less and less room,
// the disk fills up at every place where it can.
TEST(CheckpointFullDisk, ATinyFileSystemLeavesTheLastCheckpointAndNamesIt) {
  constexpr int kMayNotMount = 77;
  TemporaryDirectory directory;
  const pid_t child = fork_and_run([&] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
      return kMayNotMount;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    const std::string run = directory.path();
    if (::mount("tmpfs", run.c_str(), "tmpfs", 0, "size=1m") != 0) return kMayNotMount;
    const std::string last = write_checkpoint(run, 1, sample_contents(1, 0, 20), 1);
    int refused = 0, written = 0;
    for (size_t spare_pages = 0; spare_pages < 50; ++spare_pages) {
      const std::string ballast = run + "/ballast";
      const size_t free_bytes = fs::space(run).free;
      if (free_bytes < spare_pages * 4096) return 2;
      write_file_atomically(ballast, std::string(free_bytes - spare_pages * 4096, 'x'));
      try {
        write_checkpoint(run, 1 + written + 1, sample_contents(1 + written + 1, 0, 20), 0);
        ++written;
      } catch (const MachineError& error) {
        ++refused;
        if (written > 0) return 3;  // more room, and yet it no longer fits
        if (std::string(error.what()).find(last + " is still good") == std::string::npos) return 4;
        if (checkpoints_of(run) != std::vector{last} || latest_checkpoint(run) != last) return 5;
      }
      if (!hidden_in(run + "/checkpoints").empty()) return 6;
      fs::remove(ballast);
      if (written == 2) break;
    }
    std::printf("refused at %d sizes, then written\n", refused);
    std::fflush(stdout);
    return refused >= 5 && written == 2 ? 0 : 7;
  });
  const int status = exit_status_of(child);
  if (status == kMayNotMount) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  EXPECT_EQ(status, 0);
}

// Fifty writers, one after the other in one directory, each killed at a random moment.
TEST(CheckpointKilled, FiftyTimesAtRandomAlwaysResumable) {
  TemporaryDirectory run;
  std::mt19937 random(20240817);
  int64_t reported = 0;  // the newest step that a child said was complete
  int completed = 0, leftovers = 0;
  for (int round = 1; round <= 50; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const int64_t before = expect_newest_is_whole(run.path());
    // Odd rounds begin by replacing the newest one.
    const int64_t first = before < 0 ? 1 : before + 1 - round % 2;
    const pid_t child = fork_and_run([&] {
      for (int64_t step = first;; ++step) {
        write_checkpoint(run.path(), step, sample_contents(step, round, 1000), 2);
        if (::write(ends[1], &step, sizeof step) != sizeof step) return 1;
      }
    });
    ::close(ends[1]);
    // Now and then with a checkpoint done for certain, so that a slow machine gets on too.
    pollfd done{ends[0], POLLIN, 0};
    if (round % 5 == 1) ::poll(&done, 1, -1);
    ::usleep(random() % 60'001);
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    for (int64_t step; ::read(ends[0], &step, sizeof step) == sizeof step; ++completed)
      reported = std::max(reported, step);
    ::close(ends[0]);

    const int64_t found = expect_newest_is_whole(run.path());
    ASSERT_GE(found, reported > 0 ? reported : -1) << "round " << round;
    ASSERT_FALSE(HasFailure()) << "round " << round;
    if (found >= 0) leftovers += !hidden_in(run / "checkpoints").empty();
  }
  std::printf("%d checkpoints; %d of 50 writers left something unfinished behind\n", completed,
              leftovers);
  EXPECT_GE(completed, 10);  // those that were waited for
  write_checkpoint(run.path(), reported + 2, sample_contents(reported + 2), 2);
  EXPECT_THAT(hidden_in(run / "checkpoints"), IsEmpty());
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), {}), 2);
}

bool changes_the_disk(uint64_t number) {
  static const std::set<uint64_t> changing = {
#ifdef SYS_rename
      SYS_rename,    SYS_unlink,   SYS_mkdir,   SYS_rmdir,  SYS_open,
#endif
      SYS_renameat2, SYS_unlinkat, SYS_mkdirat, SYS_openat, SYS_write, SYS_pwrite64, SYS_fsync};
  return changing.contains(number);
}

// Lets a traced child run until just after its `wanted`-th call that can change the disk, and kills
// it there. False when it ended by itself before; `status` is then its exit status.
bool killed_after_call(pid_t child, int wanted, int& status) {
  int seen = 0;
  uint64_t number = 0;  // of the call that it is in
  for (;;) {
    if (::waitpid(child, &status, 0) != child) return false;
    if (!WIFSTOPPED(status)) return false;
    struct __ptrace_syscall_info info {};
    if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
        ::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0) {
      if (info.op == PTRACE_SYSCALL_INFO_ENTRY) number = info.entry.nr;
      if (info.op == PTRACE_SYSCALL_INFO_EXIT && changes_the_disk(number) && ++seen == wanted) {
        ::kill(child, SIGKILL);
        ::waitpid(child, &status, 0);
        return true;
      }
    } else if (seen == 0) {
      ::ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    }
    ::ptrace(PTRACE_SYSCALL, child, 0, 0);
  }
}

// Not at random: after each system call of a writer that replaces the newest checkpoint and removes
// the one before it.
TEST(CheckpointKilled, AfterEachSystemCallTheOldOrTheNewOneIsWhole) {
  constexpr int kMayNotTrace = 77;
  int calls = 0, old_ones = 0, new_ones = 0;
  // kill -9 leaves the page cache alone, so any file system serves: one without waiting, if it can.
  const std::string parent = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : ::testing::TempDir();
  for (bool killed = true; killed;) {
    TemporaryDirectory run(parent);
    write_checkpoint(run.path(), 1, sample_contents(1, 0, 1), 0);
    write_checkpoint(run.path(), 2, sample_contents(2, 0, 1), 0);
    const pid_t child = fork_and_run([&] {
      if (::ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) return kMayNotTrace;
      ::raise(SIGSTOP);
      write_checkpoint(run.path(), 2, sample_contents(2, 1, 1), 1);
      return 0;
    });
    int status = 0;
    killed = killed_after_call(child, ++calls, status);
    if (!killed && WIFEXITED(status) && WEXITSTATUS(status) == kMayNotTrace)
      GTEST_SKIP() << "tracing a child is not permitted here";
    ASSERT_TRUE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << status;

    ASSERT_EQ(expect_newest_is_whole(run.path()), 2) << "call " << calls;
    const int64_t round = read_checkpoint(*latest_checkpoint(run.path())).state.at("round");
    ASSERT_TRUE(round == 1 || new_ones == 0) << "the new one was there, and is gone again";
    ++(round == 1 ? new_ones : old_ones);
    const std::string next = write_checkpoint(run.path(), 3, sample_contents(3), 1);
    ASSERT_THAT(checkpoints_of(run.path()), ElementsAre(next)) << "call " << calls;
    ASSERT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), {}), 1)
        << "call " << calls;
  }
  std::printf("killed at %d places: %d times the old one, %d times the new one\n", calls - 1,
              old_ones, new_ones);
  EXPECT_GE(old_ones, 20);
  EXPECT_GE(new_ones, 5);
}

}  // namespace
}  // namespace reverie
