#include "trainers/text/terminal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

namespace reverie {
namespace {

TEST(Terminal, LinesAreBrokenBetweenWordsAndIndented) {
  EXPECT_EQ(wrap_words("one two three", 13), "one two three");
  EXPECT_EQ(wrap_words("one two three", 12), "one two\n    three");
  EXPECT_EQ(wrap_words("one two three", 12, 2), "one two\n  three");
  EXPECT_EQ(wrap_words("loss    1.25  LEAKS\nnext", 12), "loss    1.25\n    LEAKS\nnext")
      << "each line by itself; spaces within a line stay";
  EXPECT_EQ(wrap_words("one two three", 13, 4, 9), "one\n    two three")
      << "nine columns stand before the first line";
  EXPECT_EQ(wrap_words("\n\nends here\n", 80), "\n\nends here\n");
}

TEST(Terminal, ACommandInBackquotesIsNotBroken) {
  EXPECT_EQ(wrap_words("go on with: `reverie train --run-dir a --resume` (now)", 44),
            "go on with:\n    `reverie train --run-dir a --resume`\n    (now)");
  EXPECT_EQ(wrap_words("see (`a b`), or one ` alone and so on", 12),
            "see (`a b`),\n    or one `\n    alone\n    and so\n    on");
}

// So that it can be pasted from several lines, and none is wider than the terminal.
TEST(Terminal, ACommandWiderThanALineGoesOnBehindABackslash) {
  EXPECT_EQ(wrap_words("go on with: `reverie train --run-dir a --resume` (now)", 30),
            "go on with:\n    `reverie train \\\n        --run-dir a --resume`\n    (now)")
      << "at an option, if it can be";
  EXPECT_EQ(wrap_words("`reverie x --set 'a b c d e f g' --set \"q r s t u v w\" --y`, then", 24),
            "`reverie x --set \\\n        'a b c d e f g' \\\n        --set \\\n        "
            "\"q r s t u v w\" \\\n        --y`, then")
      << "not inside quotes, where a backslash is one";
  const std::string name = R"('it'\''s a run, of mine')";
  for (int columns = 20; columns < 60; ++columns)
    EXPECT_NE(wrap_words("`reverie train --run-dir " + name + " --resume`", columns).find(name),
              std::string::npos)
        << columns;
}

TEST(Terminal, AListGoesOnUnderItsSecondPart) {
  EXPECT_EQ(wrap_list("  --limit INT  at most so many", 24),
            "  --limit INT  at most\n      so many")
      << "it begins beyond the middle";
  EXPECT_EQ(wrap_list("Options:\n  --limit  at most so many items", 24),
            "Options:\n  --limit  at most so\n           many items");
  EXPECT_EQ(wrap_list("  --a-long-name TEXT Needs: --text", 24),
            "  --a-long-name TEXT\n      Needs: --text");
  EXPECT_EQ(wrap_list("plain text that is long", 12), "plain text\nthat is long");
}

TEST(Terminal, NoLineIsWiderButForAWordThatIs) {
  const std::string text =
      "causal: probed at 3 steps (0 to 6); most: decoding token by token, 2 sequences of 48 random "
      "tokens: moved by 1.19e-06, rounding allows 0.00012 \u00b1 0.1\n  "
      "a/very/long/path/that/is/for/"
      "copying and so on";
  for (int columns = 30; columns < 100; ++columns) {
    const std::string wrapped = wrap_words(text, columns);
    std::istringstream lines(wrapped);
    std::string joined;
    for (std::string line; std::getline(lines, line);) {
      const std::string words = line.substr(std::min(line.find_first_not_of(' '), line.size()));
      if (words.find(' ') != std::string::npos) {
        EXPECT_LE(columns_of(line), columns) << line;
      }
      joined += " " + words;
    }
    EXPECT_NE(joined.find(" a/very/long/path/that/is/for/copying"), std::string::npos);
    EXPECT_EQ(joined.find("  "), std::string::npos);
  }
}

TEST(Terminal, AFileKeepsItsLines) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string text(200, 'x');
  EXPECT_EQ(fit_terminal(ends[1], text + " " + text), text + " " + text);
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace reverie
