#include "bin/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "bin/output.h"

namespace veneer {

namespace {

constexpr std::chrono::milliseconds kBetweenDraws{100};
constexpr size_t kDigestDigits = 12;
constexpr size_t kUsualColumns = 80;
constexpr size_t kUsualRows = 24;

struct ScreenSize {
  size_t columns = kUsualColumns;
  size_t rows = kUsualRows;
};

ScreenSize screen_size(int fd) {
  ScreenSize screen;
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0) return screen;
  if (size.ws_col > 0) screen.columns = size.ws_col;
  if (size.ws_row > 0) screen.rows = size.ws_row;
  return screen;
}

// From the last of `lines` lines to the beginning of the first.
std::string to_first_line(size_t lines) {
  return lines > 1 ? fmt::format("\r\x1b[{}A", lines - 1) : "\r";
}

}  // namespace

Progress::Progress(int fd, std::vector<Layer> layers, std::function<Clock::time_point()> now)
    : now_(std::move(now)) {
  if (isatty(fd) == 0) return;
  fd_ = fd;
  for (Layer& layer : layers)
    layers_.push_back(
        {.layer = std::move(layer), .phase = Phase::waiting, .read_bytes = 0, .begun = {}});
}

Progress::~Progress() {
  clear();
}

void Progress::begin(size_t layer) {
  enter(layer, Phase::reading);
}

void Progress::exists(size_t layer) {
  enter(layer, Phase::exists);
}

void Progress::done(size_t layer) {
  enter(layer, Phase::done);
}

void Progress::enter(size_t layer, Phase phase) {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  State& state = layers_.at(layer);
  state.phase = phase;
  if (phase == Phase::reading) {
    state.read_bytes = 0;
    state.begun = now_();
  }
  last_ = layer;
  if (now_() - drawn_ >= kBetweenDraws) draw();
}

void Progress::add(size_t layer, uint64_t blob_bytes) {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  layers_.at(layer).read_bytes += blob_bytes;
  last_ = layer;
  if (now_() - drawn_ >= kBetweenDraws) draw();
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  if (lines_ > 0) write(to_first_line(lines_) + (lines_ > 1 ? "\x1b[J" : "\x1b[K"));
  lines_ = 0;
}

std::string Progress::how_far(const State& state) const {
  if (state.phase == Phase::exists) return "exists";
  if (state.phase == Phase::done) return "done";
  const std::chrono::duration<double> seconds = now_() - state.begun;
  std::string text =
      fmt::format("{} / {}", human_size(state.read_bytes), human_size(state.layer.size_bytes));
  if (seconds.count() > 0) {
    const auto rate =
        static_cast<uint64_t>(static_cast<double>(state.read_bytes) / seconds.count());
    text += fmt::format("  {}/s", human_size(rate));
  }
  return text;
}

std::string Progress::line(size_t layer) const {
  const State& state = layers_[layer];
  return fmt::format("layer {}/{}  {}  {}", layer + 1, layers_.size(),
                     state.layer.digest.substr(0, kDigestDigits), how_far(state));
}

void Progress::draw() {
  const ScreenSize screen = screen_size(fd_);
  std::vector<size_t> shown;
  for (size_t layer = 0; layer < layers_.size(); ++layer)
    if (layers_[layer].phase == Phase::reading) shown.push_back(layer);
  if (shown.empty()) shown.push_back(last_);
  // The first line must not be scrolled away: the cursor would not come back to it.
  shown.resize(std::min(shown.size(), screen.rows));
  std::string text = to_first_line(lines_);
  for (size_t i = 0; i < shown.size(); ++i) {
    // A character in the last column would make some terminals wrap, and the cursor be elsewhere.
    text += (i > 0 ? "\n" : "") + line(shown[i]).substr(0, screen.columns - 1) + "\x1b[K";
  }
  if (shown.size() < lines_) text += "\x1b[J";
  write(text);
  lines_ = shown.size();
  drawn_ = now_();
}

void Progress::write(std::string_view text) {
  // A terminal that went away is no reason to stop working.
  (void)!::write(fd_, text.data(), text.size());
}

}  // namespace veneer
