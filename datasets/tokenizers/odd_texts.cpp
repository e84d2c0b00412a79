#include "datasets/tokenizers/odd_texts.h"

#include <array>

#include "core/error.h"
#include "core/random.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

const std::string kOdd[] = {
    "", " ", "  ", "\n", "\n\n\n", "\t", "\r\n", "\r", "\v\f", "a", " a", "a ", "  a  b   c    ",
    "Hello, world! It's 1999's 42nd  test...\n", "I'm you're HE'D she'Ll we'VE 's't'S'T ''s",
    "x = 3.14159;\n\ty += x[2];", "1234567890", "12 345 6789 0", "a1b22c333d4444", "1,000,000.00",
    // Digits of other scripts, letters composed and decomposed.
    "\u0663\u0664\u0665 \u00bd \u2167", "caf\u00e9 na\u00efve", "cafe\u0301 nai\u0308ve",
    "\u1112\u1161\u11ab\uae00 \ud55c\uae00", "\u212b \u2126 \u0958 \u0344", "a\u0315\u0300\u05ae",
    "q\u0307\u0323 q\u0323\u0307 \u1e9b\u0323", "\u6211\u80fd\u541e\u4e0b\u73bb\u7483",
    "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c\uff01",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u0645\u0631\u062d\u0628\u0627",
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\U0001f642 \U0001f44d\U0001f3fd",
    "\U0001f469\u200d\U0001f4bb \u2764\ufe0f\U0001f1e9\U0001f1ea",
    // The sign by which SentencePiece writes a space; spaces that are no spaces.
    "\u2581under\u2581line \u2581", "zero\u200bwidth\ufeffx", "no\u00a0break \u3000wide\u2003em",
    "line\u2028sep\u2029par\u0085next", "\x01\x1c\x7f", "\U0010ffff \ue000 \ufffd", "<s>hi</s>",
    "<|user|> hi <|endoftext|>  there", "<pad><unk><0x41> <0x0A>", "<|end", "<s",
    "!!! ... --- '' \"\" `` ~~", "https://example.org/a?b=c&d=%20#e",
    "don\u2019t \u2018quote\u2019", "a\n\nb\n \n c \n", "tab\tx\t\ty \t z", "end with spaces   ",
    "\n leading newline", "!\n!\n\n! \n",
    "\u00df\u1e9e\ufb01\u01c5 i\u0307 \u0130 \u0131 \u017f's \u212a"};

const std::u32string kLetters =
    U"etaoinshrdluETAOIN      \n\n\t\r'\"-.,;:!?0123456789()[]{}<>|/\\@#\u2581\u00e9\u0301\u0308"
    U"\u00df\u0430\u0431\u05d0\u0627\u4e16\u754c\u3042\uac00\u1112\u1161\U0001f642\u200d\u00a0";

class OddTexts {
 public:
  OddTexts(const Tokenizer& tokenizer, size_t count) : tokenizer_(tokenizer), count_(count) {
    for (const std::string& text : kOdd) add(text);
    for (const char* part : {"x", " ", "ab", "the ", "\n", "0", "a "}) add(repeated(part, 50));
    // A vocabulary that lacks most characters takes few of the random ones.
    for (size_t tries = 0; texts_.size() < count_ && tries < 40 * count_; ++tries)
      switch (tries % 4) {
        case 0:
          add(letters());
          break;
        case 1:
          add(tokens());
          break;
        case 2:
          add(letters() + tokens() + letters());
          break;
        default: {
          const std::string part = token();
          add(tokens() + repeated(part, 2 + below(6)));
        }
      }
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  size_t below(size_t n) { return size_t(random_.below(n)); }
  static std::string repeated(const std::string& part, size_t times) {
    std::string text;
    for (size_t i = 0; i < times; ++i) text += part;
    return text;
  }
  std::string letters() {
    std::string text;
    for (size_t i = below(24); i > 0; --i)
      append_code_point(text, uint32_t(kLetters[below(kLetters.size())]));
    return text;
  }
  std::string token() {
    const auto id = int32_t(below(size_t(tokenizer_.vocabulary_size())));
    return tokenizer_.decode_continued(std::span(&id, 1));
  }
  std::string tokens() {
    std::string text;
    for (size_t i = 1 + below(10); i > 0; --i) text += token();
    return text;
  }
  void add(const std::string& text) {
    if (texts_.size() == count_) return;
    try {
      tokenizer_.encode(text);
    } catch (const UserError&) {  // no token for it, or no UTF-8
      return;
    }
    texts_.push_back(text);
  }

  const Tokenizer& tokenizer_;
  size_t count_;
  Generator random_{20241};
  std::vector<std::string> texts_;
};

}  // namespace

std::vector<std::string> odd_texts(const Tokenizer& tokenizer, int64_t count) {
  return OddTexts(tokenizer, size_t(count)).take();
}

}  // namespace reverie
