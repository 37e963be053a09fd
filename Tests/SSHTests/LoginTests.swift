import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

extension SSHTests {
  @Suite struct Login {
    @Test func runsACommandAfterALoginByKey() throws {
      let server = try Server()
      let client = try Client(loggedInTo: server)
      let result = try client.runCommand(
        "echo out; echo err >&2; cat; exit 7", input: Array("in".utf8))
      #expect(result.text == "out\nin")
      #expect(result.errorText == "err\n")
      #expect(result.exit == .status(7))
      try client.close()
      #expect(client.connection.interests.isEmpty)
      #expect(client.connection.nextDeadline == nil)
      #expect(!client.connection.hasPendingWork)
    }

    @Test(arguments: ["user_ed25519", "user_ecdsa", "user_ecdsa384", "user_ecdsa521"])
    func logsInWithAKeyFile(name: String) throws {
      let server = try Server()
      let client = try Client(try server.configuration(keyFiles: [name]))
      try client.waitUntilReady()
      let fixture = Fixture.shared
      #expect(
        client.notices.contains(
          .authenticated(
            SSHKeyAttempt(
              source: fixture.key(name),
              type: String(fixture.publicKey(name).split(separator: " ")[0]),
              fingerprint: try fixture.fingerprint(name), outcome: .accepted))))
    }

    @Test(arguments: ["user_locked", "user_ecdsa_locked"])
    func opensAKeyWithItsPassphrase(name: String) throws {
      let server = try Server()
      var configuration = try server.configuration(keyFiles: [])
      configuration.keyFiles = [
        .init(path: Fixture.shared.key(name), passphrase: secret(Fixture.shared.passphrase))
      ]
      let client = try Client(configuration)
      try client.waitUntilReady()
    }

    @Test(
      arguments: [("wrong horse", .unreadable), (nil, .needsPassphrase)]
        as [(String?, SSHKeyAttempt.Outcome)])
    func saysWhichKeyStaysLocked(
      passphrase: String?, outcome: SSHKeyAttempt.Outcome
    ) throws {
      let server = try Server()
      var configuration = try server.configuration(keyFiles: [])
      let path = Fixture.shared.key("user_locked")
      configuration.keyFiles = [.init(path: path, passphrase: passphrase.map(secret))]
      let error = try Client(configuration).waitForFailure()
      #expect(error.reason == .authenticationDenied)
      #expect(error.keyAttempts.map(\.outcome) == [outcome])
      #expect(error.keyAttempts.map(\.source) == [path])
      #expect(!error.description.contains("horse"))
    }

    @Test func logsInByTheAgent() throws {
      let server = try Server(authorizedKeys: ["user_ecdsa"])
      let agent = try Agent(keys: ["user_stranger", "user_ecdsa"])
      var configuration = try server.configuration(keyFiles: [])
      configuration.agentSocket = agent.socket
      let client = try Client(configuration)
      try client.waitUntilReady()
      guard
        case .authenticated(let attempt?) = client.take(where: {
          if case .authenticated = $0 { true } else { false }
        })
      else { throw TestFailure("no word of the key") }
      #expect(attempt.source.hasPrefix("agent: "))
      #expect(attempt.fingerprint == (try Fixture.shared.fingerprint("user_ecdsa")))
      #expect(try client.runCommand("true").exit == .status(0))
    }

    @Test func goesOnWithFilesWhenTheAgentIsGone() throws {
      let server = try Server()
      var configuration = try server.configuration()
      configuration.agentSocket = "\(server.directory.path)/no-agent"
      try Client(configuration).waitUntilReady()
    }

    @Test func namesEveryKeyThatWasRefused() throws {
      let server = try Server(authorizedKeys: ["user_ed25519"])
      let agent = try Agent(keys: ["user_ecdsa"])
      var configuration = try server.configuration(keyFiles: ["user_stranger"])
      configuration.keyFiles.append(.init(path: "/nonexistent/key"))
      configuration.agentSocket = agent.socket
      let error = try Client(configuration).waitForFailure()
      #expect(error.reason == .authenticationDenied)
      #expect(error.step == .authentication)
      #expect(error.anotherCarrierMayWork)
      #expect(error.keyAttempts.count == 3)
      for name in ["user_ecdsa", "user_stranger"] {
        #expect(error.description.contains(try Fixture.shared.fingerprint(name)))
      }
      #expect(error.description.contains("/nonexistent/key: No such file or directory"))
    }

    @Test func saysThatTheServerHasHadEnoughOfOurKeys() throws {
      let server = try Server(["MaxAuthTries 2"], authorizedKeys: ["user_ed25519"])
      let names = ["user_stranger", "user_ecdsa", "user_ecdsa384", "user_ecdsa521"]
      let error = try Client(try server.configuration(keyFiles: names)).waitForFailure()
      #expect(error.reason == .authenticationDenied)
      #expect(error.description.contains("Too many authentication failures"))
    }

    @Test func saysThatTheServerWantsNoKeys() throws {
      let server = try Server(["PubkeyAuthentication no", "PasswordAuthentication yes"])
      let error = try Client(try server.configuration()).waitForFailure()
      #expect(error.reason == .authenticationDenied)
      #expect(error.text.contains("only password"))
    }

    @Test func refusesAKeyThatOthersMayRead() throws {
      let server = try Server()
      let copy = try server.directory.write(
        "key", readFile(Fixture.shared.key("user_ed25519")), mode: 0o644)
      chmod(copy, 0o644)
      var configuration = try server.configuration(keyFiles: [])
      configuration.keyFiles = [.init(path: copy)]
      let error = try Client(configuration).waitForFailure()
      #expect(error.keyAttempts.map(\.outcome) == [.tooOpen])
    }

    @Test func refusesAFileThatIsNoKey() throws {
      let server = try Server()
      for text in ["", "nothing\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n!!!\n"] {
        var configuration = try server.configuration(keyFiles: [])
        configuration.keyFiles = [.init(path: try server.directory.write("key", text))]
        let error = try Client(configuration).waitForFailure()
        #expect(error.keyAttempts.map(\.outcome) == [.unreadable])
      }
    }

    /// What libssh2 before 1.11 makes of RSA, and a newer one; the loaded one decides.
    @Test func usesRSAOrSaysWhatWould() throws {
      let server = try Server(authorizedKeys: ["user_rsa"])
      let client = try Client(try server.configuration(keyFiles: ["user_rsa"]))
      if SSHLibrary.loaded.canUseRSASHA2 {
        try client.waitUntilReady()
      } else {
        let error = try client.waitForFailure()
        #expect(error.reason == .authenticationDenied)
        #expect(error.anotherCarrierMayWork)
        #expect(error.keyAttempts.map(\.outcome) == [.needsNewerLibrary])
        #expect(error.remedy.contains("libssh2 1.11"))
      }
    }

    @Test func usesRSAByTheAgentOrSaysWhatWould() throws {
      let server = try Server(authorizedKeys: ["user_rsa"])
      let agent = try Agent(keys: ["user_rsa"])
      var configuration = try server.configuration(keyFiles: [])
      configuration.agentSocket = agent.socket
      let client = try Client(configuration)
      if SSHLibrary.loaded.canUseRSASHA2 {
        try client.waitUntilReady()
      } else {
        let error = try client.waitForFailure()
        #expect(error.keyAttempts.map(\.outcome) == [.needsNewerLibrary])
      }
    }

    /// A server that still allows SHA-1 gets it; RSA comes after the keys that always work.
    @Test func triesRSALastWhereItHardlyWorks() throws {
      let server = try Server(
        ["PubkeyAcceptedAlgorithms +ssh-rsa"], authorizedKeys: ["user_rsa", "user_ed25519"])
      var configuration = try server.configuration(keyFiles: ["user_rsa", "user_ed25519"])
      configuration.library = SSHLibrary(version: "1.10.0")
      let client = try Client(configuration)
      try client.waitUntilReady()
      #expect(
        client.notices.contains {
          if case .authenticated(let attempt?) = $0 {
            attempt.source == Fixture.shared.key("user_ed25519")
          } else {
            false
          }
        })
      let older = try Client(try server.configuration(keyFiles: ["user_rsa"]))
      try older.waitUntilReady()
    }
  }
}

func secret(_ text: String) -> SecretBytes {
  var text = text
  return text.withUTF8 { SecretBytes(copying: UnsafeRawBufferPointer($0)) }
}

/// A real ssh-agent with keys.
final class Agent {
  let socket: String
  private let directory = TemporaryDirectory()
  private let child: ChildProcess

  init(keys: [String]) throws {
    socket = "\(directory.path)/agent"
    child = try ChildProcess(arguments: ["ssh-agent", "-D", "-a", socket])
    let end = MonotonicClock.now + patience
    while (try? SSH.AgentClient(socket: socket)) == nil {
      guard MonotonicClock.now < end, child.reap() == .running else {
        throw TestFailure("no agent")
      }
      usleep(10_000)
    }
    for key in keys {
      try run("env", "SSH_AUTH_SOCK=\(socket)", "ssh-add", "-q", Fixture.shared.key(key))
    }
  }

  deinit {
    child.terminate()
    end(of: child)
  }
}
