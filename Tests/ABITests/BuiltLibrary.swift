import Foundation
import QEMUHarness

/// The release library as it is shipped, and programs that are compiled against it here.
enum BuiltLibrary {
  static let checkout = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
  static let directory = checkout + "/.build-release/out/lib"
  static let commandLine = checkout + "/.build-release/out/bin/switchover"
  static let examples = checkout + "/bindings/c/examples"
  static let programs = checkout + "/Tests/ABITests/Programs"

  /// The path of the library; throws before `make build`.
  static var path: String {
    get throws {
      let path = directory + "/libswitchover.so.0"
      guard FileManager.default.fileExists(atPath: path) else {
        throw HarnessError("there is no \(path): `make build` makes it, `make c` runs these tests")
      }
      return path
    }
  }

  /// Compiles a program with every warning an error, and returns its path.
  ///
  /// - Parameter folder: `examples`, in the language that they promise, or `programs`.
  static func compile(
    _ name: String, of folder: String, in directory: TemporaryDirectory,
    options: [String] = ["-lswitchover"]
  ) throws -> String {
    _ = try path
    let result = directory.file(name)
    let language =
      folder == examples ? ["-std=c11", "-pedantic"] : ["-std=gnu11", "-Wno-format-truncation"]
    let compiler = try Command(
      ["cc", "-g", "-O1"] + language + ["-Wall", "-Wextra", "-Werror"]
        + ["-I\(checkout)/include", "-o", result, "\(folder)/\(name).c"]
        + ["-L\(Self.directory)", "-Wl,-rpath,\(Self.directory)"] + options,
      in: directory)
    try compiler.expectSuccess()
    return result
  }

  /// The library without what debuggers read, in this directory: valgrind gives up at parts of that.
  static func withoutDebugInformation(in directory: TemporaryDirectory) throws -> String {
    let result = directory.file("libswitchover.so.0")
    try Command(["objcopy", "--strip-debug", try path, result], in: directory).expectSuccess()
    return result
  }
}
