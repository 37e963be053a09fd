// swift-tools-version: 6.3
import PackageDescription

// The release build makes the library first and then the command line on top of it (`SWO_SHARED`);
// every other build links the core statically. The offline package build takes its dependencies by
// path (`SWO_VENDOR`).
let shared = Context.environment["SWO_SHARED"] != nil
let argumentParser: Package.Dependency =
  if let vendor = Context.environment["SWO_VENDOR"] {
    .package(path: "\(vendor)/swift-argument-parser")
  } else {
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
  }

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

let package = Package(
  name: "libswitchover",
  products: [
    .library(name: "switchover", type: .dynamic, targets: ["SwitchoverABI"]),
    .executable(name: "switchover-cli", targets: ["CLI"]),
  ],
  dependencies: [argumentParser],
  targets: [
    // C: module maps and small shims.
    .systemLibrary(name: "CJSONC", pkgConfig: "json-c", providers: [.apt(["libjson-c-dev"])]),
    .systemLibrary(name: "CLibSSH2", pkgConfig: "libssh2", providers: [.apt(["libssh2-1-dev"])]),
    .systemLibrary(name: "CSwitchover"),
    .target(name: "CPlatform"),
    .target(name: "CSSHTransport", dependencies: ["CLibSSH2"]),

    // Pure: no system call, no clock, no thread.
    .target(name: "MigrationEngine", swiftSettings: strict + [.strictMemorySafety()]),
    .target(name: "QMP", dependencies: ["CJSONC"], swiftSettings: strict),
    .target(
      name: "MigrationSession", dependencies: ["MigrationEngine", "QMP"], swiftSettings: strict),

    // The shell: the only places that reach the kernel.
    .target(name: "Platform", dependencies: ["CPlatform"], swiftSettings: strict),
    .target(
      name: "SSH", dependencies: ["CLibSSH2", "CSSHTransport", "MigrationEngine", "Platform"],
      swiftSettings: strict),
    .target(
      name: "Runtime",
      dependencies: ["MigrationEngine", "MigrationSession", "QMP", "Platform", "SSH"],
      swiftSettings: strict),
    .target(
      name: "SwitchoverABI",
      dependencies: [
        "CSwitchover", "Runtime", "MigrationEngine", "MigrationSession", "QMP",
      ],
      swiftSettings: strict),

    // The command line stands on the C interface alone.
    .target(name: "DemoGuest", swiftSettings: strict),
    .executableTarget(
      name: "CLI",
      dependencies: [
        "CSwitchover", "DemoGuest",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ] + (shared ? [] : ["SwitchoverABI"]),
      swiftSettings: strict,
      linkerSettings: shared ? [.linkedLibrary("switchover")] : []),

    // The simulated world: the very session that ships, against simulated QEMUs.
    .target(
      name: "Simulation", dependencies: ["MigrationEngine", "MigrationSession", "QMP"],
      swiftSettings: strict),
    .systemLibrary(name: "CMalloc", path: "Tests/Support/CMalloc"),
    .executableTarget(
      name: "switchover-sim", dependencies: ["CMalloc", "Simulation"],
      path: "Sources/SimulationCLI", swiftSettings: strict),

    // Tests.
    .target(name: "CQEMUHarness", path: "Tests/Support/CQEMUHarness"),
    .target(
      name: "QEMUHarness", dependencies: ["CQEMUHarness", "DemoGuest"],
      path: "Tests/Support/QEMUHarness", swiftSettings: strict),
    .testTarget(
      name: "QEMUHarnessTests", dependencies: ["QEMUHarness", "CQEMUHarness", "DemoGuest"],
      swiftSettings: strict),
    .target(name: "CBenchmarks", path: "Tests/Support/CBenchmarks"),
    .executableTarget(
      name: "switchover-bench",
      dependencies: [
        "CBenchmarks", "DemoGuest", "QEMUHarness", "CSwitchover", "SwitchoverABI", "QMP",
        "MigrationEngine", "Platform", "SSH",
      ],
      path: "Tests/Benchmarks", swiftSettings: strict),
    .testTarget(
      name: "StorageTests",
      dependencies: [
        "DemoGuest", "QEMUHarness", "CSwitchover", "MigrationEngine", "SwitchoverABI",
      ]),
    .testTarget(name: "MigrationEngineTests", dependencies: ["MigrationEngine"]),
    .testTarget(name: "QMPTests", dependencies: ["QMP"], exclude: ["Corpus"]),
    .testTarget(
      name: "MigrationSessionTests", dependencies: ["MigrationSession", "MigrationEngine", "QMP"]),
    .testTarget(
      name: "SimulationTests",
      dependencies: ["Simulation", "MigrationEngine", "MigrationSession", "QMP"]),
    .testTarget(
      name: "SimulationQEMUTests",
      dependencies: ["Simulation", "MigrationEngine", "QMP", "QEMUHarness", "DemoGuest"]),
    .testTarget(name: "TidyTests"),
    .testTarget(name: "ABITests", dependencies: ["QEMUHarness"], exclude: ["Programs"]),
    .testTarget(name: "PlatformTests", dependencies: ["Platform", "CPlatform"]),
    .systemLibrary(
      name: "COpenSSL", path: "Tests/Support/COpenSSL", pkgConfig: "libcrypto",
      providers: [.apt(["libssl-dev"])]),
    .testTarget(
      name: "SSHTests",
      dependencies: [
        "COpenSSL", "CSSHTransport", "MigrationEngine", "Platform", "QEMUHarness", "SSH",
      ]),
    .testTarget(
      name: "RuntimeTests",
      dependencies: [
        "Runtime", "MigrationEngine", "MigrationSession", "QMP", "Platform", "QEMUHarness",
      ]),
    .testTarget(name: "CLITests", dependencies: ["CLI", "DemoGuest", "CSwitchover"]),
    .testTarget(
      name: "CLIRunTests", dependencies: ["CLI", "DemoGuest", "QEMUHarness"],
      exclude: ["Programs"]),
    .testTarget(
      name: "QEMUTests", dependencies: ["QEMUHarness", "CSwitchover", "SwitchoverABI"]),
  ],
  swiftLanguageModes: [.v6]
)

// Whatever its kind, our code does not warn.
for target in package.targets {
  switch target.type {
  case .test: target.swiftSettings = (target.swiftSettings ?? []) + strict
  default: break
  }
}
