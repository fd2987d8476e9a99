//! The service as the AWS client sees it: what the platform asks of storage, asked for real.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation},
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use tempfile::TempDir;

use super::*;

const BUCKET: &str = "kiln";
/// Smallest part of a multipart upload but the last.
const PART_BYTES: usize = 5 << 20;

struct Rig {
    _folder: TempDir,
    server: S3Server,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(folder.path(), 0, "user", "secret", BUCKET).await.unwrap();
        Self { _folder: folder, server }
    }

    fn client(&self, secret: &str, checksums: bool) -> Client {
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new("user", secret, None, None, "test"))
            .endpoint_url(self.server.endpoint())
            .force_path_style(true)
            .region(Region::new("us-east-1"));
        if !checksums {
            config = config
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Client::from_conf(config.build())
    }
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap()
}

async fn put(client: &Client, key: &str, body: impl Into<ByteStream>) {
    client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .content_type("image/png")
        .body(body.into())
        .send()
        .await
        .unwrap();
}

async fn body(client: &Client, key: &str) -> Vec<u8> {
    let object = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    object.body.collect().await.unwrap().to_vec()
}

#[tokio::test]
async fn an_object_is_put_read_listed_and_deleted() {
    let rig = Rig::new().await;
    for checksums in [false, true] {
        let client = rig.client("secret", checksums);
        put(&client, "outputs/job/0.png", b"first".to_vec()).await;
        put(&client, "outputs/job/0.png", b"second".to_vec()).await;
        put(&client, "outputs/other/0.png", b"x".to_vec()).await;
        assert_eq!(body(&client, "outputs/job/0.png").await, b"second");
        let head = client.head_object().bucket(BUCKET).key("outputs/job/0.png").send().await.unwrap();
        assert_eq!((head.content_type(), head.content_length()), (Some("image/png"), Some(6)));

        let list = client.list_objects_v2().bucket(BUCKET).prefix("outputs/job/").send().await.unwrap();
        let keys: Vec<_> = list.contents().iter().filter_map(|object| object.key()).collect();
        assert_eq!(keys, ["outputs/job/0.png"]);

        for _ in 0..2 {
            client.delete_object().bucket(BUCKET).key("outputs/job/0.png").send().await.unwrap();
        }
        let missing = client.get_object().bucket(BUCKET).key("outputs/job/0.png").send().await.unwrap_err();
        assert!(missing.into_service_error().is_no_such_key());
        let missing = client.head_object().bucket(BUCKET).key("outputs/job/0.png").send().await.unwrap_err();
        assert!(missing.into_service_error().is_not_found());
    }
    rig.server.stop().await;
}

#[tokio::test]
async fn a_large_object_streams_from_a_file_and_in_parts() {
    let rig = Rig::new().await;
    let bytes: Vec<u8> = (0..2 * PART_BYTES + 17).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    for checksums in [false, true] {
        let client = rig.client("secret", checksums);
        put(&client, "whole.bin", ByteStream::from_path(file.path()).await.unwrap()).await;
        assert_eq!(body(&client, "whole.bin").await, bytes);

        let upload = client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key("parts.bin")
            .content_type("video/mp4")
            .send()
            .await
            .unwrap();
        let upload_id = upload.upload_id().unwrap();
        let mut parts = CompletedMultipartUpload::builder();
        for (number, part) in (1..).zip(bytes.chunks(PART_BYTES)) {
            let request = client.upload_part().bucket(BUCKET).key("parts.bin").upload_id(upload_id);
            let sent = request.part_number(number).body(part.to_vec().into()).send().await.unwrap();
            parts = parts
                .parts(CompletedPart::builder().part_number(number).e_tag(sent.e_tag().unwrap()).build());
        }
        let request = client.complete_multipart_upload().bucket(BUCKET).key("parts.bin").upload_id(upload_id);
        request.multipart_upload(parts.build()).send().await.unwrap();
        assert_eq!(body(&client, "parts.bin").await, bytes);
        let head = client.head_object().bucket(BUCKET).key("parts.bin").send().await.unwrap();
        assert_eq!(head.content_type(), Some("video/mp4"));
    }
    rig.server.stop().await;
}

#[tokio::test]
async fn a_signed_address_can_be_fetched_in_part_and_under_another_name() {
    let rig = Rig::new().await;
    let client = rig.client("secret", false);
    put(&client, "outputs/job/0 ü.png", b"0123456789".to_vec()).await;
    let signed = client
        .get_object()
        .bucket(BUCKET)
        .key("outputs/job/0 ü.png")
        .response_content_type("application/octet-stream")
        .response_content_disposition("attachment; filename=\"fox.png\"")
        .presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    let browser = browser();

    let whole = browser.get(signed.uri()).send().await.unwrap();
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["content-type"], "application/octet-stream");
    assert_eq!(whole.headers()["content-disposition"], "attachment; filename=\"fox.png\"");
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");

    let part = browser.get(signed.uri()).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(part.bytes().await.unwrap(), "234");

    let forged = signed.uri().replace("fox.png", "wolf.png");
    assert_eq!(browser.get(forged).send().await.unwrap().status(), 403);
    rig.server.stop().await;
}

#[tokio::test]
async fn nothing_is_read_or_written_without_a_valid_signature() {
    let rig = Rig::new().await;
    put(&rig.client("secret", false), "a.png", b"x".to_vec()).await;
    let browser = browser();
    let object = format!("{}/{BUCKET}/a.png", rig.server.endpoint());
    let listing = format!("{}/{BUCKET}?list-type=2", rig.server.endpoint());
    for address in [&object, &listing] {
        assert_eq!(browser.get(address).send().await.unwrap().status(), 403, "{address}");
    }
    assert_eq!(browser.put(&object).body("y").send().await.unwrap().status(), 403);
    assert_eq!(browser.delete(&object).send().await.unwrap().status(), 403);

    let stranger = rig.client("guess", false);
    let refusal = stranger.get_object().bucket(BUCKET).key("a.png").send().await.unwrap_err();
    assert_eq!(refusal.raw_response().unwrap().status().as_u16(), 403);

    let expired = PresigningConfig::builder()
        .start_time(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        .expires_in(Duration::from_secs(60))
        .build()
        .unwrap();
    let signed = rig
        .client("secret", false)
        .get_object()
        .bucket(BUCKET)
        .key("a.png")
        .presigned(expired)
        .await
        .unwrap();
    assert_eq!(browser.get(signed.uri()).send().await.unwrap().status(), 403);
    rig.server.stop().await;
}

#[tokio::test]
async fn a_restarted_service_still_has_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let first = S3Server::start(folder.path(), 0, "user", "secret", BUCKET).await.unwrap();
    let port = url::Url::parse(first.endpoint()).unwrap().port().unwrap();
    let rig = Rig { _folder: folder, server: first };
    put(&rig.client("secret", false), "a.png", b"x".to_vec()).await;
    rig.server.stop().await;

    let second = S3Server::start(rig._folder.path(), port, "user", "secret", BUCKET).await.unwrap();
    let rig = Rig { _folder: rig._folder, server: second };
    assert_eq!(body(&rig.client("secret", false), "a.png").await, b"x");
    rig.server.stop().await;
}
