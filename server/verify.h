// Is a bundle whole, does every stream decode, and does each thread equal the truth?
#pragma once

#include <functional>

#include "decode/engine_compare.h"
#include "server/open_snapshot.h"
#include "server/query.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {

/// open gives the snapshots on demand; all is borrowed for the call. Errors: a truth folder that cannot be read.
Result<VerifyReport> verify_bundle(const transport::BundleReader& reader,
                                   const std::function<Result<OpenSnapshot*>(size_t)>& open,
                                   const VerifyQuestion& question, const Progress& progress);

std::vector<DamageRow> damage_rows(const std::vector<transport::BundleReader::Damage>& damage);

/// Where the engines differ first, and what each says there; empty when they tell the same.
std::string difference_words(const decode::EngineComparison& compared);

}  // namespace hindcast::server
