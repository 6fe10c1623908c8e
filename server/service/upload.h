// A bundle that somebody hands in: written beside the store, verified whole, then put into it like one that a host shipped.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "hindcast/bytes.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"
#include "server/service/catalog.h"
#include "server/service/log.h"
#include "transport/digest.h"
#include "transport/file_sink.h"

namespace hindcast::server {

struct UploadOutcome {
  std::string incident;
  bool created = false;  // false: that content was in the store already, as this incident's
};

class Uploads;

/// One upload under way. Without finish(), or when that fails, nothing of it stays.
class Upload {
 public:
  ~Upload();
  /// Errors: io when the disk or the store is full; too_large beyond the limit of one bundle.
  Result<void> write(ByteSpan bytes);
  /// Durable when it returns. Errors: bad_input, version, corrupt when it is no whole bundle; io; those of the catalog.
  Result<UploadOutcome> finish(const std::string& reason);

 private:
  friend class Uploads;
  Upload(Uploads& uploads, std::string path, Fd file)
      : uploads_(uploads), path_(std::move(path)), file_(std::move(file)) {}

  Uploads& uploads_;
  std::string path_;
  Fd file_;
  uint64_t bytes_ = 0;  // written, and reserved in the store
  transport::Hasher hasher_;
  bool kept_ = false;
};

/// Thread-safe.
class Uploads {
 public:
  /// `folder` is on the store's file system and nobody else's; what an earlier server left there is removed. most_bytes: of one
  /// bundle. put: told of each new bundle. Errors: io, permission.
  using Put = std::function<void(const std::string& host, const std::string& incident)>;
  static Result<std::unique_ptr<Uploads>> create(const std::string& folder, uint64_t most_bytes, Catalog& catalog,
                                                 transport::FileSink& sink, Log& log, Put put = {});
  Result<std::unique_ptr<Upload>> begin();

 private:
  friend class Upload;
  Uploads(std::string folder, uint64_t most_bytes, Catalog& catalog, transport::FileSink& sink, Log& log, Put put)
      : folder_(std::move(folder)),
        most_bytes_(most_bytes),
        catalog_(catalog),
        sink_(sink),
        log_(log),
        put_(std::move(put)) {}
  Result<std::string> find(uint64_t bytes, const std::string& digest);

  const std::string folder_;
  const uint64_t most_bytes_;
  Catalog& catalog_;
  transport::FileSink& sink_;
  Log& log_;
  const Put put_;
  std::mutex putting_;  // held from the search for the same content until this one can be found
  std::mutex mutex_;    // guards next_
  uint64_t next_ = 0;
};

/// A text as a name (transport/names.h): what a name may not hold becomes '_'.
std::string as_name(const std::string& text);

}  // namespace hindcast::server
