#include <omp.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "autograd/variable.h"
#include "fuzz/fuzz_support.h"
#include "layers/pretrained/load.h"

// Loads any bytes as a pretrained model and asks it for logits. Bytes that begin as GGUF are a file
// of that kind; others are a Hugging Face directory: config.json, a zero byte, the index of the
// shards (empty: there is one file), a zero byte, and the file of tensors, which under an index is
// its shard "shard".

namespace {

namespace fs = std::filesystem;

void write(const fs::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary).write(text.data(), std::streamsize(text.size()));
}

// What stands before the next zero byte, which is taken off `rest`.
std::string_view cut(std::string_view& rest) {
  const size_t end = rest.find('\0');
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

std::string model_of(const fs::path& directory, std::string_view bytes) {
  for (const char* name :
       {"config.json", "model.safetensors", "model.safetensors.index.json", "shard", "base.gguf"})
    fs::remove(directory / name);
  if (bytes.starts_with("GGUF")) {
    write(directory / "base.gguf", bytes);
    return directory / "base.gguf";
  }
  write(directory / "config.json", cut(bytes));
  const std::string_view index = cut(bytes);
  if (!index.empty()) write(directory / "model.safetensors.index.json", index);
  write(directory / (index.empty() ? "model.safetensors" : "shard"), bytes);
  return directory;
}

// In memory where the machine has that; gone with the process.
struct Folder {
  Folder() {
    const fs::path memory = "/dev/shm";
    std::string name =
        (fs::exists(memory) ? memory : fs::temp_directory_path()) / "reverie-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace reverie;
  static const Folder folder;
  omp_set_num_threads(1);
  return fuzz::refusing([&] {
    const LoadedModel loaded =
        load_pretrained(model_of(folder.path, {reinterpret_cast<const char*>(data), bytes}));
    const NoGrad no_grad;
    loaded.model->logits(Tensor::zeros({1, 2}, DType::i32));
  });
}
