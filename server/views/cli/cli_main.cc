// hindcast: everything a person types.
#include "server/views/cli/cli.h"

int main(int argc, char** argv) { return hindcast::server::cli::run(argc, argv); }
