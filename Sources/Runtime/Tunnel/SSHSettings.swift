import MigrationEngine
import MigrationSession
import Platform
import SSH

/// Everything that has to be known, read and looked up before a login, for both carriers.
///
/// The rules for host keys, the keys to log in with, names and ports are those of ssh's own
/// configuration, as `ssh -G` prints it: so both carriers keep the same ones.
struct SSHSettings {
  /// How long `ssh -G` may take, milliseconds: a `Match exec` may run programs.
  private static let questionLimit: Int32 = 10_000

  let command: SSHCommand
  let loginLimit: Span
  /// `user@host`, for people.
  let destination: String
  /// For the library; or why it cannot be used here.
  let library: Result<LibraryWay, Obstacle>
  /// The ciphers that the configuration allows, the fastest of them for this machine first.
  let ciphers: String?

  struct LibraryWay {
    let configuration: SSHConfiguration
    let addresses: [SocketAddress]
  }

  struct Obstacle: Error {
    let text: String
  }

  /// **Blocks**: asks ssh, looks the host up, and reads keys and known_hosts files.
  init(
    user: String?, host: String, port: UInt16?, options: SSHOptions
  ) throws(RouteError) {
    command = SSHCommand(options.command, user: user, host: host, port: port)
    loginLimit = options.loginLimit
    let answers = try Self.ask(command)
    try Self.checkPromises(answers)
    let name = answers.first("hostname") ?? host
    let login = answers.first("user") ?? user ?? ""
    destination = "\(login)@\(name)"
    ciphers = Self.preferredCiphers(answers.first("ciphers"))
    if options.carrier == .system {
      library = .failure(Obstacle(text: "not asked for"))
    } else {
      library = Self.libraryWay(answers, host: name, user: login, limit: options.loginLimit)
    }
  }

  // MARK: - What ssh says

  private struct Answers {
    var values: [String: [String]] = [:]

    func first(_ name: String) -> String? { values[name]?.first }
    func words(_ name: String) -> [String] {
      first(name)?.split(separator: " ").map(String.init) ?? []
    }
  }

  private static func ask(_ command: SSHCommand) throws(RouteError) -> Answers {
    let result: ProgramOutput
    let arguments = command.questionArguments
    do throws(SystemError) {
      result = try ProgramOutput(
        of: arguments, limit: 256 << 10, withinMilliseconds: questionLimit)
    } catch {
      throw .tunnel("'\(arguments[0])' could not be started: \(error.text)")
    }
    var answers = Answers()
    for line in String(decoding: result.output, as: UTF8.self).split(separator: "\n") {
      guard let blank = line.firstIndex(of: " ") else { continue }
      answers.values[line[..<blank].lowercased(), default: []]
        .append(String(line[line.index(after: blank)...]))
    }
    guard answers.first("hostname") != nil else {
      let words = SSHWords.essence(of: String(decoding: result.error, as: UTF8.self))
      let reason = result.status == .running ? "no answer in time" : words
      throw .tunnel("'\(arguments[0])' does not read its configuration: \(reason)")
    }
    return answers
  }

  /// What the caller's command or configuration may not undo.
  private static func checkPromises(_ answers: Answers) throws(RouteError) {
    let promises: [(name: String, allowed: [String])] = [
      ("StrictHostKeyChecking", ["yes", "true"]), ("BatchMode", ["yes"]),
      ("ExitOnForwardFailure", ["yes"]), ("ControlPath", ["none"]),
    ]
    for (name, allowed) in promises {
      guard let value = answers.first(name.lowercased()), !allowed.contains(value) else { continue }
      throw .tunnel(
        "the ssh command sets \(name) to '\(value)', and here it has to be '\(allowed[0])'")
    }
  }

  /// Where the processor has AES, AES-GCM beats ChaCha20 by half; where it has not, it is slower.
  private static func preferredCiphers(_ allowed: String?) -> String? {
    let best = "aes128-gcm@openssh.com"
    guard HostFacts.hasAES, let names = allowed?.split(separator: ",").map(String.init),
      names.contains(best)
    else { return nil }
    return ([best] + names.filter { $0 != best }).joined(separator: ",")
  }

  // MARK: - For the library

  private static func libraryWay(
    _ answers: Answers, host: String, user: String, limit: Span
  ) -> Result<LibraryWay, Obstacle> {
    for name in ["proxyjump", "proxycommand"] {
      if let value = answers.first(name), value != "none" {
        return .failure(
          Obstacle(text: "the way leads through a proxy, which libssh2 does not know"))
      }
    }
    let port = answers.first("port").flatMap(UInt16.init) ?? 22
    let addresses: [SocketAddress]
    if let address = SocketAddress(numericHost: host, port: port) {
      addresses = [address]
    } else {
      do throws(ResolutionError) {
        addresses = try SocketAddress.resolve(host: host, port: port)
      } catch {
        return .failure(Obstacle(text: "host '\(host)' could not be looked up: \(error)"))
      }
    }
    let files = (answers.words("userknownhostsfile") + answers.words("globalknownhostsfile"))
      .filter { $0 != "none" }
    let expansion = Expansion(host: host, user: user)
    var configuration = SSHConfiguration(
      host: host, port: port, user: user,
      hostKeyRule: .knownHosts(
        files: files.compactMap(expansion.expand), alias: answers.first("hostkeyalias")))
    configuration.agentSocket = agentSocket(answers, expansion)
    configuration.keyFiles = (answers.values["identityfile"] ?? []).compactMap(expansion.expand)
      .map { SSHConfiguration.KeyFile(path: $0) }
    configuration.limits.handshake = min(configuration.limits.handshake, limit)
    configuration.limits.authentication = min(configuration.limits.authentication, limit)
    configuration.loadFiles()
    return .success(LibraryWay(configuration: configuration, addresses: addresses))
  }

  /// With `IdentitiesOnly` no agent is asked: its keys cannot be told apart beforehand.
  private static func agentSocket(_ answers: Answers, _ expansion: Expansion) -> String? {
    if answers.first("identitiesonly") == "yes" { return nil }
    let value = answers.first("identityagent") ?? "SSH_AUTH_SOCK"
    if value == "none" { return nil }
    if value == "SSH_AUTH_SOCK" { return HostFacts.environment(value) }
    if value.hasPrefix("$") {
      return HostFacts.environment(String(value.dropFirst().filter { $0 != "{" && $0 != "}" }))
    }
    return expansion.expand(value)
  }

  /// What ssh puts for `~` and tokens in a file's name.
  private struct Expansion {
    let host: String
    let user: String
    let home = HostFacts.homeDirectory

    /// Nil where a token is not known here.
    func expand(_ path: String) -> String? {
      var result = ""
      var rest = path[...]
      if rest.hasPrefix("~/") {
        guard let home else { return nil }
        result = home
        rest = rest.dropFirst()
      }
      while let character = rest.popFirst() {
        guard character == "%" else {
          result.append(character)
          continue
        }
        switch rest.popFirst() {
        case "%": result += "%"
        case "h": result += host
        case "r": result += user
        case "d":
          guard let home else { return nil }
          result += home
        case "u":
          guard let name = HostFacts.userName else { return nil }
          result += name
        default: return nil
        }
      }
      return result
    }
  }
}
