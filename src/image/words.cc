#include "image/words.h"

#include "base/error.h"

namespace veneer {

namespace {

constexpr size_t kDepth = 16;

bool is_white(char c) {
  return kWhite.find(c) != std::string_view::npos;
}

bool is_name(char c, bool is_first) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (!is_first && c >= '0' && c <= '9');
}

class Expander {
 public:
  Expander(std::string_view text, const Variables& variables, size_t depth)
      : text_(text), variables_(variables), depth_(depth) {
    if (depth > kDepth) fail(Code::invalid_argument, "variables nested deeper than {}", kDepth);
  }

  std::string run() {
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '\'')
        single_quoted();
      else if (c == '"')
        double_quoted();
      else if (c == '$')
        variable();
      else if (c == '\\' && at_ < text_.size())
        out_ += text_[at_++];
      else
        out_ += c;
    }
    return std::move(out_);
  }

 private:
  void single_quoted() {
    const size_t end = text_.find('\'', at_);
    if (end == text_.npos) fail(Code::invalid_argument, "a ' without its end");
    out_ += text_.substr(at_, end - at_);
    at_ = end + 1;
  }

  void double_quoted() {
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return;
      const bool is_escape = c == '\\' && at_ < text_.size() &&
                             (text_[at_] == '"' || text_[at_] == '$' || text_[at_] == '\\');
      if (c == '$')
        variable();
      else
        out_ += is_escape ? text_[at_++] : c;
    }
    fail(Code::invalid_argument, "a \" without its end");
  }

  std::string_view take_name() {
    const size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_], at_ == start)) ++at_;
    return text_.substr(start, at_ - start);
  }

  // After the dollar.
  void variable() {
    if (!text_.substr(at_).starts_with('{')) {
      const std::string_view name = take_name();
      if (name.empty())
        out_ += '$';
      else
        out_ += variables_(name).value_or("");
      return;
    }
    ++at_;
    const std::string_view name = take_name();
    const std::string_view rest = text_.substr(at_);
    const std::string value = variables_(name).value_or("");
    if (!name.empty() && rest.starts_with('}')) {
      ++at_;
      out_ += value;
      return;
    }
    if (name.empty() || !(rest.starts_with(":-") || rest.starts_with(":+")))
      fail(Code::invalid_argument,
           "\"${{{}{}\" is not ${{name}}, ${{name:-word}} or ${{name:+word}}", name,
           rest.substr(0, 16));
    const bool wants_value = rest[1] == '-';
    at_ += 2;
    const std::string word = Expander(take_braced(), variables_, depth_ + 1).run();
    if (wants_value)
      out_ += value.empty() ? word : value;
    else if (!value.empty())
      out_ += word;
  }

  // To the brace that ends this one.
  std::string_view take_braced() {
    const size_t start = at_;
    for (size_t open = 1; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\\')
        ++at_;
      else if (text_[at_] == '{')
        ++open;
      else if (text_[at_] == '}' && --open == 0)
        return text_.substr(start, at_++ - start);
    }
    fail(Code::invalid_argument, "a ${{ without its end");
  }

  std::string_view text_;
  const Variables& variables_;
  size_t depth_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string expand_word(std::string_view text, const Variables& variables) {
  return Expander(text, variables, 0).run();
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool is_open = false;
  char quote = '\0';
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quote == '\0' && is_white(c)) {
      is_open = false;
      continue;
    }
    if (!is_open) words.emplace_back();
    is_open = true;
    words.back() += c;
    if (c == '\\' && quote != '\'' && at + 1 < text.size())
      words.back() += text[++at];
    else if (quote == c)
      quote = '\0';
    else if (quote == '\0' && (c == '"' || c == '\''))
      quote = c;
  }
  if (quote != '\0') fail(Code::invalid_argument, "a {} without its end", quote);
  return words;
}

}  // namespace veneer
