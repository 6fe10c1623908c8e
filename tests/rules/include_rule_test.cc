// Who may include whom: data flows capture -> transport -> server <- decode, and nothing flows back.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

/// The folder whose rule a path (relative to the root, "/" separated) lives under.
std::string room_of(const std::string& path) {
  for (const char* room :
       {"include/", "capture/sim/plugin/", "capture/", "transport/", "decode/", "server/views/", "server/", "tests/"})
    if (path.rfind(room, 0) == 0) return room;
  return "";
}

/// True when a file in `room` may include `target`; both as paths from the root.
bool may_include(const std::string& room, const std::string& target) {
  const std::string to = room_of(target);
  if (room == "tests/") return true;
  if (to == "include/" || to == room) return true;
  if (room == "capture/sim/plugin/") return target == "capture/sim/channel.h";
  if (room == "capture/") return to == "transport/";
  // Two doors: questions about a bundle here, and the same of a server elsewhere. Neither lets transport or decode through.
  if (room == "server/views/") return target == "server/query.h" || target == "server/remote.h";
  if (room == "server/") return to == "transport/" || to == "decode/" || to == "server/views/";
  return false;
}

struct Finding {
  std::string where, includes;
};

/// Every violation in one file's text.
std::vector<Finding> violations(const std::string& path, const std::string& text, const fs::path& root) {
  static const std::regex include(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<Finding> found;
  const std::string room = room_of(path);
  size_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::smatch m;
    const std::string one = text.substr(at, end - at);
    at = end + 1;
    ++line;
    if (!std::regex_search(one, m, include)) continue;
    std::string target = m[1];
    if (target.rfind("hindcast/", 0) == 0) target = "include/" + target;
    const std::string where = path + ":" + std::to_string(line);
    if (room_of(target).empty() || !fs::exists(root / target))
      found.push_back({where, target + " (not a path from the root of the tree)"});
    else if (!may_include(room, target))
      found.push_back({where, target});
  }
  return found;
}

TEST(IncludeRule, HoldsForEveryFileOfTheTree) {
  const fs::path root = HC_SOURCE_DIR;
  size_t files = 0;
  for (const char* top : {"include", "capture", "transport", "decode", "server", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const auto ext = entry.path().extension();
      if (!entry.is_regular_file() || (ext != ".h" && ext != ".cc" && ext != ".c")) continue;
      ++files;
      std::ifstream in(entry.path());
      const std::string text((std::istreambuf_iterator<char>(in)), {});
      const std::string path = fs::relative(entry.path(), root).generic_string();
      for (const auto& f : violations(path, text, root)) ADD_FAILURE() << f.where << " may not include " << f.includes;
    }
  }
  EXPECT_GT(files, 10u);
}

TEST(IncludeRule, CatchesEachForbiddenArrow) {
  const fs::path root = HC_SOURCE_DIR;
  const auto count = [&](const char* from, const std::string& target) {
    return violations(from, "#include \"" + target + "\"\n", root).size();
  };
  EXPECT_EQ(count("capture/x.cc", "transport/bundle_writer.h"), 0u);
  EXPECT_EQ(count("capture/x.cc", "hindcast/cut.h"), 0u);
  EXPECT_EQ(count("decode/x.cc", "transport/bundle_reader.h"), 1u);
  EXPECT_EQ(count("decode/x.cc", "capture/pt_source.h"), 1u);
  EXPECT_EQ(count("transport/x.cc", "capture/pt_source.h"), 1u);
  EXPECT_EQ(count("server/x.cc", "capture/pt_source.h"), 1u);
  EXPECT_EQ(count("server/views/x.cc", "transport/bundle_reader.h"), 1u);
  EXPECT_EQ(count("server/views/x.cc", "server/query.h"), 0u);
  EXPECT_EQ(count("server/views/x.cc", "server/remote.h"), 0u);
  EXPECT_EQ(count("server/views/x.cc", "server/remote_answers.h"), 1u);
  EXPECT_EQ(count("include/hindcast/x.h", "transport/bundle_reader.h"), 1u);
  EXPECT_EQ(count("capture/sim/plugin/x.cc", "transport/bundle_writer.h"), 1u);
  EXPECT_EQ(count("capture/sim/plugin/x.cc", "capture/sim/channel.h"), 0u);
  EXPECT_EQ(count("decode/x.cc", "no_such_header.h"), 1u);
}

}  // namespace
