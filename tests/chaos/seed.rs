//! The seed is what an arena is furnished with: the base and runtime images of the host's engine in one file, and a package
//! index that is a folder. Made once, with the host's engine and its way to the internet; every run after that needs
//! neither.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bollard::Docker as Client;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, LogsOptions, RemoveContainerOptions, WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use skep::engine::docker::Docker;
use skep::engine::{Engine, Progress};
use skep::settings::Settings;

/// What every API has, so that the index needs it.
const PACKAGES: [&str; 4] = ["fastapi", "uvicorn[standard]", "python-multipart", "websockets"];

/// What an arena is furnished with.
#[derive(Debug)]
pub struct Seed {
    folder: PathBuf,
}

/// What the seed was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    base: String,
    runtime: String,
}

impl Seed {
    /// One that was made before.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Base and runtime image, as the engine exports them.
    pub fn images(&self) -> PathBuf {
        self.folder.join("images.tar")
    }

    /// Makes the seed, or finds that the last one is still good.
    pub async fn make() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-seed");
        let client = Client::connect_with_defaults()?;
        let (base, tag) = ensure_images().await?;
        let id = |image: bollard::models::ImageInspect| image.id.context("an image has an id");
        let made =
            Made { base: id(client.inspect_image(&base).await?)?, runtime: id(client.inspect_image(&tag).await?)? };
        let mark = folder.join("made.json");
        let before = fs::read(&mark).ok().and_then(|text| serde_json::from_slice::<Made>(&text).ok());
        if before.as_ref() != Some(&made) {
            println!("chaos: copying {base} and {tag}, and filling a package index");
            fs::remove_dir_all(&folder).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            fs::create_dir_all(folder.join("index/simple"))?;
            let mut file = File::create(folder.join("images.tar"))?;
            let names = [base.as_str(), tag.as_str()];
            let mut bytes = client.export_images(&names);
            while let Some(chunk) = bytes.try_next().await? {
                file.write_all(&chunk)?;
            }
            drop(bytes);
            fetch_packages(&client, &tag, &folder).await?;
            fs::write(mark, serde_json::to_vec(&made)?)?;
        }
        Ok(Self { folder })
    }
}

/// Base and runtime image on the host's engine, by name. Leaves nothing else behind there.
async fn ensure_images() -> anyhow::Result<(String, String)> {
    let root = tempfile::tempdir()?;
    let settings = Settings::load(root.path(), |name| std::env::var(name).ok())?;
    let docker = Docker::connect(&settings, &hex::encode(rand::random::<[u8; 6]>()))?;
    let made = docker.base(&Progress::new(|line| println!("chaos: base image: {line}"))).await;
    docker.dismantle().await?;
    let base = made.context("the host's engine has no base image for the arena")?;
    Ok((base.name, format!("skep/runtime:{}", base.digest.short())))
}

/// Has the runtime's own `pip` fetch the packages, in a container of the host's engine.
async fn fetch_packages(client: &Client, image: &str, folder: &Path) -> anyhow::Result<()> {
    let words =
        ["/opt/skep/tools/bin/python", "-m", "pip", "download", "--only-binary", ":all:", "--dest", "/opt/wheels"];
    let mut env = vec!["HOME=/tmp".to_owned(), "PIP_CERT=/opt/skep/ca.pem".to_owned(), "PIP_NO_CACHE_DIR=1".to_owned()];
    env.extend(std::env::var("SKEP_INDEX_URL").map(|url| format!("PIP_INDEX_URL={url}")));
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec!["/usr/bin/env".to_owned()]),
        cmd: Some(words.into_iter().chain(PACKAGES).map(str::to_owned).collect()),
        env: Some(env),
        ..ContainerCreateBody::default()
    };
    let id = client.create_container(None::<CreateContainerOptions>, body).await?.id;
    let fetched = fetch_in(client, &id, folder).await;
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    client.remove_container(&id, Some(options)).await?;
    fetched
}

async fn fetch_in(client: &Client, id: &str, folder: &Path) -> anyhow::Result<()> {
    client.start_container(id, None).await?;
    let ended = client.wait_container(id, None::<WaitContainerOptions>).next().await;
    if !matches!(ended, Some(Ok(_))) {
        let options = LogsOptions { stdout: true, stderr: true, tail: "5".to_owned(), ..LogsOptions::default() };
        let said: Vec<_> = client.logs(id, Some(options)).try_collect().await?;
        let said: String = said.iter().map(ToString::to_string).collect();
        anyhow::bail!("the packages that every API has cannot be fetched: {said}");
    }
    let options = DownloadFromContainerOptions { path: "/opt/wheels".to_owned() };
    let bytes: Vec<_> = client.download_from_container(id, Some(options)).try_collect().await?;
    let bytes = bytes.concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| is_wheel(&path)) else {
            continue;
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        add(&folder.join("index"), name, &bytes)?;
    }
    Ok(())
}

/// Adds a wheel to an index: a folder for each package, as PEP 503 has it.
pub fn add(index: &Path, wheel: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let (package, _) = wheel.split_once('-').context("a wheel's name begins with its package")?;
    ensure!(!package.is_empty(), "a wheel's name begins with its package");
    let folder = index.join("simple").join(package.replace(['_', '.'], "-").to_lowercase());
    fs::create_dir_all(&folder)?;
    let aside = index.join(format!("{wheel}.new"));
    fs::write(&aside, bytes)?;
    Ok(fs::rename(aside, folder.join(wheel))?)
}

/// A wheel of one module that says its version: a package that nobody else has.
pub fn wheel(package: &str, version: &str) -> (String, Vec<u8>) {
    let info = format!("{package}-{version}.dist-info");
    let files = [
        (format!("{package}.py"), format!("VERSION = \"{version}\"\n")),
        (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: chaos\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
        ),
        (format!("{info}/RECORD"), format!("{package}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")),
    ];
    (format!("{package}-{version}-py3-none-any.whl"), zip(&files))
}

/// A ZIP archive of stored files (APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
fn zip(files: &[(String, String)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    for (name, text) in files {
        let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        fields.extend(crc32(text.as_bytes()).to_le_bytes());
        fields.extend([length(text.len()), length(text.len())].concat());
        fields.extend(&length(name.len())[..2]);
        fields.extend([0, 0]);
        let offset = length(bytes.len());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&fields);
        bytes.extend(name.as_bytes());
        bytes.extend(text.as_bytes());
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&fields);
        directory.extend([0, 0, 0, 0, 0, 0]);
        directory.extend([0, 0, 0xa4, 0x81]);
        directory.extend(offset);
        directory.extend(name.as_bytes());
    }
    let (start, size, count) = (length(bytes.len()), length(directory.len()), length(files.len()));
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([&count[..2], &count[..2], &size, &start, &[0, 0]].concat());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "whl")
}
