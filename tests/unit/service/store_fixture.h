// A store without a server: catalog and sink in a folder that goes away, and bundles to put into it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "server/service/catalog.h"
#include "server/service/log.h"
#include "server/service/upload.h"
#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"
#include "tests/unit/service/must.h"
#include "transport/bundle_writer.h"
#include "transport/file_sink.h"

namespace hindcast::server {

class StoreFixture : public testing::Test {
 protected:
  void SetUp() override { open(); }

  void open(uint64_t limit = UINT64_MAX) {
    uploads_.reset();
    sink_.reset();
    catalog_.reset();
    catalog_ = must(Catalog::open(folder_ / "catalog.sqlite")).catalog;
    transport::FileSink::Limits limits;
    limits.total_bytes = limit;
    sink_ = must(transport::FileSink::create(bundles(), limits));
    uploads_ = must(Uploads::create(folder_ / "uploads", limits.snapshot_bytes, *catalog_, *sink_, log_));
  }
  std::string bundles() const { return folder_ / "bundles"; }

  /// The bytes of a bundle.
  std::vector<uint8_t> bundle(const std::string& host, const std::string& incident, uint32_t seed = 1,
                              size_t pt_bytes = 20000) {
    test::TempFolder folder;
    const auto made = test::make_snapshot(host, incident, seed, pt_bytes);
    auto writer = must(transport::BundleWriter::create(folder / "made.hcb"));
    for (size_t i = 0; i < made.images.size(); ++i)
      must_do(writer.append_image(made.info.images[i].id, made.images[i]));
    for (size_t i = 0; i < made.streams.size(); ++i)
      must_do(writer.append_stream(made.info.streams[i].id, made.streams[i]));
    must_do(writer.end_snapshot(made.info));
    must_do(writer.finish());
    return test::bytes_of_file(folder / "made.hcb");
  }
  /// A file of the store, as if the sink had committed it and the server had then been killed.
  std::string put(const std::string& host, const std::string& incident, const std::vector<uint8_t>& bytes) {
    std::filesystem::create_directories(bundles() + "/" + host);
    const std::string path = bundles() + "/" + host + "/" + incident + ".hcb";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  HostSnapshot committed(const std::string& host, uint64_t when_ns, uint64_t bytes) {
    HostSnapshot h;
    h.host = host;
    h.state = SnapshotState::committed;
    h.committed_ns = when_ns;
    h.bytes = bytes;
    return h;
  }
  SnapshotState state(const std::string& incident, size_t host = 0) {
    return must(catalog_->incident(incident))->hosts.at(host).state;
  }

  test::TempFolder folder_;
  std::vector<std::string> lines_;
  Log log_{[this](const std::string& line) { lines_.push_back(line); }};
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<transport::FileSink> sink_;
  std::unique_ptr<Uploads> uploads_;
};

}  // namespace hindcast::server
