import Foundation
import QEMUHarness
import Testing

/// The built program `switchover`, run for real.
final class CommandRun {
  /// How long a run may take; generous, for the machine may be loaded.
  static let limit = Duration.seconds(120)

  private let directory: TemporaryDirectory
  private let outputPath: String
  private let errorPath: String
  private let child: ChildProcess

  /// Starts the program; its error output goes to a terminal where one is given.
  ///
  /// Extra variables are set in its environment, with which it always prints UTF-8.
  init(
    _ arguments: [String], variables: [String: String] = [:], errorsTo terminal: String? = nil
  ) throws {
    directory = try TemporaryDirectory()
    outputPath = directory.file("output")
    errorPath = terminal ?? directory.file("errors")
    let all = ["LC_ALL": "C.UTF-8", "TERM": "xterm", "NO_COLOR": ""].merging(variables) { $1 }
    child = try ChildProcess(
      "/usr/bin/env",
      all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" } + [Self.program] + arguments,
      standardErrorPath: errorPath, standardOutputPath: outputPath)
  }

  /// Runs a shell command in which `$SWITCHOVER` is the program.
  convenience init(shell command: String) throws {
    try self.init(wrapped: ["/bin/sh", "-c", command])
  }

  private init(wrapped words: [String]) throws {
    directory = try TemporaryDirectory()
    outputPath = directory.file("output")
    errorPath = directory.file("errors")
    child = try ChildProcess(
      "/usr/bin/env", ["LC_ALL=C.UTF-8", "SWITCHOVER=\(Self.program)"] + words,
      standardErrorPath: errorPath, standardOutputPath: outputPath)
  }

  /// The program lies beside the program of the tests.
  static let program: String = {
    let tests = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return tests.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/switchover-cli"
  }()

  var output: String { Self.read(outputPath) }
  var errors: String { Self.read(errorPath) }

  func send(_ signal: Int32) { child.kill(signal: signal) }

  /// The exit status; nil if it does not end in time or is ended by a signal.
  func waitForExit() -> Int32? {
    guard case .exited(let status) = child.waitForExit(upTo: Self.limit) else { return nil }
    return status
  }

  var isRunning: Bool { child.exit == nil }

  /// Waits until something is true of what the program has written; false if it never is.
  func wait(until isTrue: (CommandRun) throws -> Bool) rethrows -> Bool {
    let deadline = MonotonicTime.now + Self.limit
    while MonotonicTime.now < deadline {
      if try isTrue(self) { return true }
      guard isRunning else { return try isTrue(self) }
      Thread.sleep(forTimeInterval: 0.005)
    }
    return false
  }

  /// Every line of standard output as a JSON object; fails the test where one is none.
  func objects() throws -> [[String: Any]] {
    try output.split(separator: "\n").map { line in
      let value = try JSONSerialization.jsonObject(with: Data(line.utf8))
      return try #require(value as? [String: Any], "\(line)")
    }
  }

  private static func read(_ path: String) -> String {
    guard !path.hasPrefix("/dev/") else { return "" }
    return String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
  }
}

extension QEMUPair {
  /// The arguments that name this pair to `migrate` and `check`.
  var arguments: [String] {
    [
      "--source", source.monitorPaths[0], "--target", target.monitorPaths[0],
      "--uri", migrationAddress, "--name", "vm 100",
    ]
  }

  /// The same for `migrate`, with a journal among the pair's files.
  var migration: [String] { ["migrate"] + arguments + ["--journal", journal] }

  var journal: String { directory.file("journal") }
}

extension QEMUPair.Options {
  /// A guest that changes its memory faster than a slow migration carries it away.
  static var busy: QEMUPair.Options {
    var options = QEMUPair.Options()
    options.common.guest.memory = .init(mebibytes: 64, pagesPerTick: 8)
    return options
  }
}
