// The daemon's log: one line an event on standard error, `level=error call=Prepare key="..." ...`,
// which systemd's journal and log collectors take as it is. Where it is not the journal
// ($JOURNAL_STREAM, systemd.exec(5)), which has times of its own, `time=2024-01-02T03:04:05.678Z`
// goes first.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace veneer {

struct LogField {
  std::string_view name;
  std::string value;
};

// For any thread. Never throws: where standard error does not work there is nobody to tell.
class Log {
 public:
  enum class Level { error, info, debug };

  explicit Log(Level most = Level::error);
  void write(Level level, std::initializer_list<LogField> fields) const;
  // Whether write() does anything: where the fields cost too much to make them in vain.
  bool takes(Level level) const { return level <= most_; }

 private:
  Level most_;
  bool has_times_;
};

// The line, without its end: values are quoted where they are not plain words, and cannot make
// another line.
std::string log_line(Log::Level level, std::initializer_list<LogField> fields);

}  // namespace veneer
