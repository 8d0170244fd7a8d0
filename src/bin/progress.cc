#include "bin/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bin/output.h"

namespace veneer {

namespace {

constexpr std::chrono::milliseconds kBetweenDraws{100};
constexpr size_t kDigestDigits = 12;
constexpr size_t kUsualColumns = 80;

size_t columns_of(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualColumns;
}

}  // namespace

Progress::Progress(int fd, std::function<Clock::time_point()> now) : now_(std::move(now)) {
  if (isatty(fd) != 0) fd_ = fd;
}

Progress::~Progress() {
  clear();
}

void Progress::begin(Layer layer) {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  layer_ = std::move(layer);
  done_ = 0;
  begun_ = now_();
  if (begun_ - drawn_ >= kBetweenDraws) draw(how_far());
}

void Progress::add(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  done_ += bytes;
  if (now_() - drawn_ >= kBetweenDraws) draw(how_far());
}

void Progress::exists(Layer layer) {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  layer_ = std::move(layer);
  if (now_() - drawn_ >= kBetweenDraws) draw("exists");
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  if (visible_) write("\r\x1b[K");
  visible_ = false;
}

std::string Progress::how_far() const {
  const std::chrono::duration<double> seconds = now_() - begun_;
  std::string text = fmt::format("{} / {}", human_size(done_), human_size(layer_.size_bytes));
  if (seconds.count() > 0) {
    const auto rate = static_cast<uint64_t>(static_cast<double>(done_) / seconds.count());
    text += fmt::format("  {}/s", human_size(rate));
  }
  return text;
}

void Progress::draw(std::string_view state) {
  std::string line = fmt::format("layer {}/{}  {}  {}", layer_.number, layer_.count,
                                 layer_.digest.substr(0, kDigestDigits), state);
  // A character in the last column would make some terminals wrap, and "\r" would not undo that.
  if (const size_t columns = columns_of(fd_); line.size() >= columns) line.resize(columns - 1);
  write("\r" + line + "\x1b[K");
  visible_ = true;
  drawn_ = now_();
}

void Progress::write(std::string_view text) {
  // A terminal that went away is no reason to stop working.
  (void)!::write(fd_, text.data(), text.size());
}

}  // namespace veneer
